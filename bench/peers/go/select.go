// select.go - peer of bench_select.c.
package main

func produce(out chan<- uint64, n int) {
	for x := 0; x < n; x++ {
		out <- uint64(x)
	}
	close(out)
}

func selectOverTwo(capacity int) func(n int) {
	return func(n int) {
		left, right := make(chan uint64, capacity), make(chan uint64, capacity)
		var next [2]uint64
		outOfOrder := 0
		go produce(left, n/2)
		go produce(right, n/2)
		for left != nil || right != nil {
			select {
			case x, ok := <-left:
				if !ok {
					left = nil // a nil channel never fires
					break
				}
				if x != next[0] {
					outOfOrder++
				}
				next[0]++
			case x, ok := <-right:
				if !ok {
					right = nil
					break
				}
				if x != next[1] {
					outOfOrder++
				}
				next[1]++
			}
		}
		check(outOfOrder == 0 && next[0] == uint64(n/2) && next[1] == uint64(n/2), "messages")
	}
}

func main() {
	run([]bench{
		{name: "select", params: "channels=2 capacity=1024", workers: 1, n: 400000, sample: selectOverTwo(1024)},
		{name: "select", params: "channels=2 capacity=1024", workers: 2, n: 400000, sample: selectOverTwo(1024)},
		{name: "select", params: "channels=2 capacity=0", workers: 1, n: 100000, sample: selectOverTwo(0)},
		{name: "select", params: "channels=2 capacity=0", workers: 2, n: 100000, sample: selectOverTwo(0)},
	})
}
