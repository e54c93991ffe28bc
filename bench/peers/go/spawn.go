// spawn.go - peer of bench_fiber_spawn.c: one at a time.
package main

import "sync"

func spawnAndJoin(n int) {
	var ended sync.WaitGroup
	ran := 0
	for i := 0; i < n; i++ {
		ended.Add(1)
		go func() {
			ran++
			ended.Done()
		}()
		ended.Wait()
		check(ran == i+1, "ran")
	}
}

func main() {
	run([]bench{
		{name: "spawn-join", workers: 1, n: 100000, sample: spawnAndJoin},
		{name: "spawn-join", workers: 2, n: 100000, sample: spawnAndJoin},
	})
}
