// chan.go - peer of bench_chan_unbuffered.c and bench_chan_buffered.c. Go has no batches.
package main

import "sync"

func roundTrips(n int) {
	question, answer := make(chan uint64), make(chan uint64)
	go func() {
		for x := range question {
			answer <- x + 1
		}
		close(answer)
	}()
	var x uint64
	for i := 0; i < n; i++ {
		question <- x
		x = <-answer
	}
	check(x == uint64(n), "count")
	close(question)
	_, ok := <-answer
	check(!ok, "end")
}

type end struct {
	count, sum uint64
	_          [48]byte
}

func through(side int) func(n int) {
	return func(n int) {
		var producers, consumers sync.WaitGroup
		ch := make(chan uint64, 1024)
		in, out := make([]end, side), make([]end, side)
		producers.Add(side)
		consumers.Add(side)
		for i := 0; i < side; i++ {
			go func(e *end) {
				for x := range ch {
					e.sum += x
					e.count++
				}
				consumers.Done()
			}(&out[i])
			go func(e *end) {
				for x := uint64(0); x < uint64(n/side); x++ {
					ch <- x
					e.sum += x
				}
				e.count = uint64(n / side)
				producers.Done()
			}(&in[i])
		}
		producers.Wait()
		close(ch)
		consumers.Wait()
		var sent, received end
		for i := 0; i < side; i++ {
			sent.count += in[i].count
			sent.sum += in[i].sum
			received.count += out[i].count
			received.sum += out[i].sum
		}
		check(sent == received && sent.count == uint64(n), "messages")
	}
}

func main() {
	run([]bench{
		{name: "chan-round-trip", params: "capacity=0", workers: 1, n: 100000, sample: roundTrips},
		{name: "chan-round-trip", params: "capacity=0", workers: 2, n: 100000, sample: roundTrips},
		{name: "chan-buffered", params: "1:1 capacity=1024", workers: 1, n: 400000, sample: through(1)},
		{name: "chan-buffered", params: "1:1 capacity=1024", workers: 2, n: 400000, sample: through(1)},
		{name: "chan-buffered", params: "4:4 capacity=1024", workers: 1, n: 400000, sample: through(4)},
		{name: "chan-buffered", params: "4:4 capacity=1024", workers: 2, n: 400000, sample: through(4)},
	})
}
