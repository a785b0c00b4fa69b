// Command control-plane is the storage and the API server of Kubernetes in one static binary, for tests: the first
// argument says which of the two this process is.
package main

import (
	"fmt"
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	switch {
	case len(os.Args) > 1 && os.Args[1] == "etcd":
		etcdmain.Main(os.Args[1:])
	case len(os.Args) > 1 && os.Args[1] == "kube-apiserver":
		os.Args = os.Args[1:]
		os.Exit(cli.Run(app.NewAPIServerCommand()))
	default:
		fmt.Fprintln(os.Stderr, "usage: control-plane etcd|kube-apiserver [flags]")
		os.Exit(2)
	}
}
