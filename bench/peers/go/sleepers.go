// sleepers.go - peer of bench_time_sleepers.c.
package main

import (
	"sync"
	"time"
)

var inTime [200000]bool

func sleepAll(n int) {
	var asleep sync.WaitGroup
	opened := time.Now()
	asleep.Add(n)
	for i := 0; i < n; i++ {
		go func(i int) {
			wait := time.Duration(1+i%100) * time.Millisecond
			time.Sleep(wait)
			inTime[i] = time.Since(opened) >= wait
			asleep.Done()
		}(i)
	}
	asleep.Wait()
	for i := range inTime {
		check(inTime[i], "a sleep too short")
		inTime[i] = false
	}
}

func main() {
	runRounds([]bench{
		{name: "sleepers", params: "1-100ms", workers: 1, n: len(inTime), sample: sleepAll},
		{name: "sleepers", params: "1-100ms", workers: 2, n: len(inTime), sample: sleepAll},
	})
}
