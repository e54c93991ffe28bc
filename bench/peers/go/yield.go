// yield.go - peer of bench_fiber_yield.c. Go looks into another queue every 61st time, so 3 % of the yields come back at once.
package main

import (
	"runtime"
	"sync"
)

func yieldInTurn(n int) {
	var both sync.WaitGroup
	last, outOfTurn := -1, 0
	both.Add(2)
	for me := 0; me < 2; me++ {
		go func(me int) {
			for i := 0; i < n/2; i++ {
				if last == me {
					outOfTurn++
				}
				last = me
				runtime.Gosched()
			}
			both.Done()
		}(me)
	}
	both.Wait()
	check(outOfTurn < n/20, "turns")
}

func main() {
	run([]bench{{name: "yield", params: "fibers=2", workers: 1, n: 1000000, sample: yieldInTurn}})
}
