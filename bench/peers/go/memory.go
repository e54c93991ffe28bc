// memory.go - peer of bench_fiber_memory.c: a parked goroutine.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
)

func kilobytes(path, key string) (kb float64) {
	f, err := os.Open(path)
	check(err == nil, path)
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), key) {
			fmt.Sscan(lines.Text()[len(key):], &kb)
		}
	}
	return kb
}

func memoryBytes() float64 {
	return 1024 * (kilobytes("/proc/self/smaps_rollup", "Rss:") + kilobytes("/proc/self/status", "VmPTE:"))
}

func main() {
	const n = 100000
	var arrived, ended sync.WaitGroup
	goOn := make(chan struct{})
	runtime.GOMAXPROCS(1)
	printHeader()
	before := memoryBytes()
	arrived.Add(n)
	ended.Add(n)
	for i := 0; i < n; i++ {
		go func() {
			arrived.Done()
			<-goOn
			ended.Done()
		}()
	}
	arrived.Wait()
	each := (memoryBytes() - before) / n
	close(goOn)
	ended.Wait()
	fmt.Printf("fiber-memory\tparked\t1\t%d\tbytes\t%.2f\t%.2f\t-\t-\t1\n", n, each, each)
}
