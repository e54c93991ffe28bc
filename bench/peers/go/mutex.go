// mutex.go - peer of bench_sync_mutex.c.
package main

import (
	"runtime"
	"sync"
)

const (
	goroutines = 4
	yieldEvery = 64
)

type counter struct {
	lock  sync.Mutex
	count uint64
	_     [48]byte
}

func countTogether(n int) {
	var ended sync.WaitGroup
	c := new(counter)
	ended.Add(goroutines)
	for i := 0; i < goroutines; i++ {
		go func() {
			for turn := 1; turn <= n/goroutines; turn++ {
				c.lock.Lock()
				c.count++
				c.lock.Unlock()
				if turn%yieldEvery == 0 {
					runtime.Gosched()
				}
			}
			ended.Done()
		}()
	}
	ended.Wait()
	check(c.count == uint64(n), "count")
}

func main() {
	run([]bench{
		{name: "mutex", params: "fibers=4", workers: 1, n: 1000000, sample: countTogether},
		{name: "mutex", params: "fibers=4", workers: 2, n: 1000000, sample: countTogether},
	})
}
