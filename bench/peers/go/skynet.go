// skynet.go - peer of bench_chan_skynet.c.
package main

const width = 10

func grow(up chan<- uint64, first, leaves uint64, capacity int) {
	if leaves == 1 {
		up <- first
		return
	}
	down := make(chan uint64, capacity)
	for i := uint64(0); i < width; i++ {
		go grow(down, first+i*(leaves/width), leaves/width, capacity)
	}
	var sum uint64
	for i := 0; i < width; i++ {
		sum += <-down
	}
	up <- sum
}

func skynet(capacity int) func(n int) {
	return func(n int) {
		leaves := (uint64(n)*(width-1) + 1) / width
		root := make(chan uint64)
		go grow(root, 0, leaves, capacity)
		check(<-root == leaves*(leaves-1)/2, "sum")
	}
}

func main() {
	run([]bench{
		{name: "skynet", params: "capacity=0", workers: 1, n: 1111111, samples: 5, sample: skynet(0)},
		{name: "skynet", params: "capacity=0", workers: 2, n: 1111111, samples: 5, sample: skynet(0)},
		{name: "skynet", params: "capacity=10", workers: 1, n: 1111111, samples: 5, sample: skynet(10)},
		{name: "skynet", params: "capacity=10", workers: 2, n: 1111111, samples: 5, sample: skynet(10)},
	})
}
