// spawn_million.go - peer of bench_fiber_spawn.c: a million before the first wait.
package main

import "sync"

var marks [1000000]byte

func spawnAllThenJoin(n int) {
	var ended sync.WaitGroup
	for i := range marks {
		marks[i] = 0
	}
	ended.Add(n)
	for i := 0; i < n; i++ {
		go func(i int) {
			marks[i]++
			ended.Done()
		}(i)
	}
	ended.Wait()
	sum := 0
	for _, mark := range marks {
		sum += int(mark)
	}
	check(sum == n, "marks")
}

func main() {
	runRounds([]bench{
		{name: "spawn-million", workers: 1, n: len(marks), sample: spawnAllThenJoin},
		{name: "spawn-million", workers: 2, n: len(marks), sample: spawnAllThenJoin},
	})
}
