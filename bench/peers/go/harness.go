// harness.go - what bench/harness.c is for Sley: the same rows, for Go. Compiled together with one of the files beside it.
package main

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"sort"
	"strings"
	"syscall"
	"time"
)

type bench struct {
	name, params string
	workers      int
	n            int
	samples      int
	sample       func(n int)
}

func check(ok bool, what string) {
	if !ok {
		fmt.Fprintln(os.Stderr, "wrong result:", what)
		os.Exit(1)
	}
}

func cpuNs() float64 {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Nano() + u.Stime.Nano())
}

func nearestRank(values []float64, part float64) float64 {
	sort.Float64s(values)
	return values[int(math.Ceil(part*float64(len(values))))-1]
}

func printHeader() {
	if len(os.Args) > 2 {
		return // a second process of runRounds
	}
	fmt.Println("name\tparams\tworkers\tn\tunit\tmedian\tp99\tcpu\tallocs\tsamples")
}

func takeSample(b bench) (ns, cpu, allocs float64) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpuBefore := cpuNs()
	begin := time.Now()
	b.sample(b.n)
	ns = float64(time.Since(begin).Nanoseconds()) / float64(b.n)
	cpu = (cpuNs() - cpuBefore) / float64(b.n)
	runtime.ReadMemStats(&after)
	return ns, cpu, float64(after.Mallocs-before.Mallocs) / float64(b.n)
}

func printSeries(b bench, params string, ns, cpu []float64, allocs float64) {
	fmt.Printf("%s\t%s\t%d\t%d\tns\t%.2f\t%.2f\t%.2f\t%.3f\t%d\n", b.name, params, b.workers, b.n, nearestRank(ns, 0.5),
		nearestRank(ns, 0.99), nearestRank(cpu, 0.5), allocs/float64(len(ns)), len(ns))
}

func isWanted(b bench) bool {
	return len(os.Args) < 2 || strings.Contains(b.name+" "+b.params, os.Args[1])
}

// Steady rows: a sample to warm up, then those that count.
func run(benches []bench) {
	printHeader()
	for _, b := range benches {
		if !isWanted(b) {
			continue
		}
		runtime.GOMAXPROCS(b.workers)
		samples := b.samples
		if samples == 0 {
			samples = 25
		}
		b.sample(b.n)
		var ns, cpu []float64
		var allocs float64
		for i := 0; i < samples; i++ {
			n, c, a := takeSample(b)
			ns, cpu, allocs = append(ns, n), append(cpu, c), allocs+a
		}
		printSeries(b, b.params, ns, cpu, allocs)
	}
}

// Rounds: a process has one runtime, so each row starts the program anew, measures twice and prints both.
func runRounds(benches []bench) {
	printHeader()
	for _, b := range benches {
		if !isWanted(b) {
			continue
		}
		if len(os.Args) < 3 {
			process, err := os.StartProcess("/proc/self/exe", []string{os.Args[0], b.name + " " + b.params, fmt.Sprint(b.workers)},
				&os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
			check(err == nil, "a second process")
			state, err := process.Wait()
			check(err == nil && state.Success(), b.name)
			continue
		}
		if os.Args[2] != fmt.Sprint(b.workers) {
			continue
		}
		runtime.GOMAXPROCS(b.workers)
		for round := 1; round <= 2; round++ {
			ns, cpu, allocs := takeSample(b)
			printSeries(b, strings.TrimSpace(fmt.Sprintf("%s round=%d", b.params, round)), []float64{ns}, []float64{cpu}, allocs)
		}
	}
}
