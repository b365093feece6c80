// Package exports is what the host calls: it hands each call on to flannel.Serving.
package exports

import (
	"runtime"

	"example-host-gw/bindings/flannel_backend_policy"
	"example-host-gw/bindings/flannel_backend_types"
	"example-host-gw/bindings/wit/types"
	"example-host-gw/flannel"
)

func Describe() flannel_backend_policy.Description {
	is := flannel.Serving.Describe()
	return flannel_backend_policy.Description{Name: is.Name, Version: is.Version, BackendTypes: is.BackendTypes}
}

func Register(node flannel_backend_types.Node, config string) wit_types.Result[flannel_backend_policy.Registration, string] {
	options, err := flannel.ParseOptions(config)
	if err != nil {
		return wit_types.Err[flannel_backend_policy.Registration](err.Error())
	}
	published, err := flannel.Serving.Register(flannel.FromNode(node), options)
	if err != nil {
		return wit_types.Err[flannel_backend_policy.Registration](err.Error())
	}
	return wit_types.Ok[flannel_backend_policy.Registration, string](flannel_backend_policy.Registration{
		BackendType:   published.BackendType,
		BackendData:   unlessEmpty(published.BackendData),
		BackendV6Data: unlessEmpty(published.BackendV6Data),
		Mtu:           published.MTU,
	})
}

func LeaseAcquired(lease flannel_backend_types.Lease) wit_types.Result[wit_types.Unit, string] {
	if err := flannel.Serving.LeaseAcquired(flannel.FromLease(lease)); err != nil {
		return wit_types.Err[wit_types.Unit](err.Error())
	}
	return wit_types.Ok[wit_types.Unit, string](wit_types.Unit{})
}

func Apply(changes []flannel_backend_policy.Change) wit_types.Result[[]flannel_backend_policy.Rejection, string] {
	var rejections []flannel_backend_policy.Rejection
	for _, change := range changes {
		if change.Tag() == flannel_backend_policy.ChangeRemoved {
			flannel.Serving.Removed(change.Removed())
			continue
		}
		put := change.Put()
		if err := flannel.Serving.Put(put.F0, flannel.FromLease(put.F1)); err != nil {
			rejections = append(rejections, flannel_backend_policy.Rejection{Peer: put.F0, Reason: err.Error()})
		}
	}
	yield()
	return wit_types.Ok[[]flannel_backend_policy.Rejection, string](rejections)
}

func Tick() wit_types.Result[wit_types.Option[uint64], string] {
	next, err := flannel.Serving.Tick()
	yield()
	switch {
	case err != nil:
		return wit_types.Err[wit_types.Option[uint64]](err.Error())
	case next == 0:
		return wit_types.Ok[wit_types.Option[uint64], string](wit_types.None[uint64]())
	default:
		return wit_types.Ok[wit_types.Option[uint64], string](wit_types.Some(uint64(next.Milliseconds())))
	}
}

// Goroutines run only while the host is in a call: those of the garbage collector's cleanups, too.
func yield() {
	runtime.Gosched()
}

func unlessEmpty(text string) wit_types.Option[string] {
	if text == "" {
		return wit_types.None[string]()
	}
	return wit_types.Some(text)
}
