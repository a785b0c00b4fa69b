// Command pause holds the namespaces of a pod, or of a whole node, for as long as it runs: it sleeps, buries orphans, and
// ends when told to.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGCHLD, syscall.SIGINT, syscall.SIGTERM)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		// One signal may stand for several ended children.
		for {
			if buried, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != nil || buried <= 0 {
				break
			}
		}
	}
}
