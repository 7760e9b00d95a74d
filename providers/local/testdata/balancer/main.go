// Command balancer stands in for `slipway balancer`: it answers every connection with its version
// and its backends, which it reads each time, or with the reason why it has none.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
)

var version = "1"

func main() {
	if len(os.Args) != 4 || os.Args[1] != "balancer" || os.Args[2] != "--config" {
		log.Fatalf("arguments: %q", os.Args)
	}
	l, err := net.Listen("tcp", ":6443")
	if err != nil {
		log.Fatal(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Fprintf(c, "%s uid %d %s", version, os.Getuid(), backends(os.Args[3]))
		c.Close()
	}
}

func backends(config string) string {
	b, err := os.ReadFile(config)
	if err != nil {
		return err.Error()
	}
	var v struct {
		Listen, Backends []string
		CAFile           string
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return err.Error()
	}
	ca, err := os.ReadFile(v.CAFile)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(v.Listen, v.Backends, string(ca))
}
