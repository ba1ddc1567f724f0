package receiver
import ("testing";"time";"sync";"fmt";"context")
func TestRawCompare(t *testing.T) {
	s := newSite(t)
	c, _ := NewClient(s.config)
	what, _ := falcoFormat{}.parse(testReport([]byte(falcoBody(t))))
	for round := range 3 {
	for _, w := range []int{16, 64} {
		st := newClusterStore(c, "r0"); st.calls = make(chan struct{}, w)
		start := time.Now(); var wg sync.WaitGroup
		for i := range 500 { wg.Go(func(){ a := what.alerts[0]; a.spec.Fingerprint = fmt.Sprint(w,round,i); id := identify(s.namespace,&a)
			r := newRecorder(st,"r0",nil,s.logr()); if _,_,err := r.createOrGet(context.Background(), id, &a); err!=nil {t.Error(err)} }) }
		wg.Wait(); t.Logf("raw %d writers: %s", w, time.Since(start))
	}
		var senders sync.WaitGroup
		start := time.Now()
		for i := range 500 { senders.Go(func() {
			r, err := s.send("POST", "/v1/namespaces/"+s.namespace+"/falco", s.token, stringsReader(falcoBody(t, "cart-7f9", fmt.Sprint("cart-", round, i))))
			if err != nil || r.status != 201 { t.Error(err, r.body) } }) }
		senders.Wait(); t.Logf("receiver: %s", time.Since(start))
	}
}
