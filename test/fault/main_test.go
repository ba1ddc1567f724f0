// Package fault holds the tests that kill the manager in the middle of its work, and
// hold it to leave the same outcome behind as if nobody had.
package fault

import (
	"testing"

	"github.com/firebreak-dev/firebreak/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
