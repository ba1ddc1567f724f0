package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// SpoolAtMost waits, with Eventually, until the metrics that a receiver serves at an address
// tell of so many alerts in its spool, or fewer.
func SpoolAtMost(metrics string, most int) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+metrics+"/metrics", http.NoBody)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		for line := range strings.SplitSeq(string(text), "\n") {
			count, is := strings.CutPrefix(line, "firebreak_receiver_spool_items ")
			if !is {
				continue
			}
			if items, err := strconv.ParseFloat(count, 64); err != nil || items > float64(most) {
				return fmt.Errorf("there are %s alerts in the spool, want at most %d", count, most)
			}
			return nil
		}
		return errors.New("the metrics do not tell of the spool")
	}
}
