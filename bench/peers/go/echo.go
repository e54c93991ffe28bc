// echo.go - the echo server in Go, a goroutine a connection. usage: echo PORT
package main

import (
	"fmt"
	"net"
	"os"
	"runtime"
)

func main() {
	runtime.GOMAXPROCS(1)
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		panic(err)
	}
	fmt.Println("listening")
	for {
		c, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		go func() {
			defer c.Close()
			buffer := make([]byte, 2048)
			for {
				n, err := c.Read(buffer)
				if err != nil {
					return
				}
				if _, err = c.Write(buffer[:n]); err != nil {
					return
				}
			}
		}()
	}
}
