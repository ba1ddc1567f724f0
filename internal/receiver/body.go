package receiver

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

const (
	// bodyTimeout is when a body must be there, and sharedTimeout that of HTTP/2, where each waits for
	// the others of its connection.
	bodyTimeout, sharedTimeout = 10 * time.Second, time.Minute
	// roomTimeout is for how long a body waits for room.
	roomTimeout = 10 * time.Second
)

// read reads the body. The bytes of all requests together are bounded, until release,
// when nothing made of the body is held any more.
func (h *Handler) read(w http.ResponseWriter, r *http.Request, sender string) (body []byte, release func(), err error) {
	limit := h.options.MaxBodyBytes
	if r.ContentLength > limit {
		return nil, nil, tooLarge(limit)
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, nil, newProblem(http.StatusUnsupportedMediaType, "content-encoding", "The body is encoded",
			"The body must be sent without a Content-Encoding.")
	}
	weight := r.ContentLength
	if weight < 0 {
		weight = limit
	}
	ctx, cancel := context.WithTimeout(r.Context(), roomTimeout)
	defer cancel()
	// In HTTP/2 it must not wait for room: what of its body has come would keep those of others from
	// arriving that have theirs.
	giveBack, err := h.bodies.take(ctx, sender, weight, r.ProtoMajor < 2)
	if err != nil {
		return nil, nil, overloaded()
	}
	// Not every ResponseWriter can: then the server's own timeout ends a slow body.
	connection := http.NewResponseController(w)
	within := bodyTimeout
	if r.ProtoMajor >= 2 {
		within = sharedTimeout
	}
	_ = connection.SetReadDeadline(time.Now().Add(within))
	if body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, limit)); err != nil {
		giveBack(weight, true)
		return nil, nil, readProblem(err, limit, within)
	}
	_ = connection.SetReadDeadline(time.Time{}) // or the request would end with it, waiting for its turn
	held := int64(len(body))
	giveBack(weight-held, false)
	return body, func() { giveBack(held, true) }, nil
}

func readProblem(err error, limit int64, within time.Duration) *Problem {
	const slug, title = "incomplete-body", "The body could not be read"
	var tooMuch *http.MaxBytesError
	switch {
	case errors.As(err, &tooMuch):
		return tooLarge(limit)
	case errors.Is(err, os.ErrDeadlineExceeded): // whose text has addresses
		return problemf(http.StatusRequestTimeout, slug, title, "The body must arrive whole within %s.", within)
	}
	return problemf(http.StatusBadRequest, slug, title, "The body must arrive whole within %s: %s", within, err)
}

func tooLarge(limit int64) *Problem {
	return problemf(http.StatusRequestEntityTooLarge, "too-large", "The body is too large",
		"The body must be at most %d bytes long.", limit)
}
