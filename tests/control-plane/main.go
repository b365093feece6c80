// A Kubernetes control plane for tests: etcd, kube-apiserver and kube-controller-manager in one program, of which a process runs one part.
// The lab starts it (tests/lab/src/control_plane/); xtask builds it once a machine (xtask/src/control_plane/).
package main

import (
	"fmt"
	"os"
	"slices"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // metrics of the controllers' requests
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

// Each part reads its flags from os.Args, and names itself in managedFields and user agents by the program's name in there.
var parts = map[string]func(){
	"etcd":        func() { etcdmain.Main(os.Args) },
	"apiserver":   func() { os.Exit(cli.Run(apiserver.NewAPIServerCommand())) },
	"controllers": func() { os.Exit(cli.Run(controllers.NewControllerManagerCommand())) },
}

func main() {
	if len(os.Args) > 1 {
		name := os.Args[1]
		if run, known := parts[name]; known {
			os.Args = slices.Concat([]string{"control-plane-" + name}, os.Args[2:])
			run()
			return
		}
	}
	fmt.Fprintln(os.Stderr, "usage: control-plane etcd|apiserver|controllers [flags]")
	os.Exit(2)
}
