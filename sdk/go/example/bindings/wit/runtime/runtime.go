// Package runtime is what generated bindings have in common. It is go.bytecodealliance.org/pkg/wit/runtime of wit-bindgen-go 0.61.1, with
// another cabi_realloc; the licence is in the directory above.
package runtime

import (
	"fmt"
	"runtime"
	"unsafe"
)

type Handle struct {
	value int32
}

func (h *Handle) Use() int32 {
	if h.value == 0 {
		panic("nil handle")
	}
	return h.value
}

func (h *Handle) Take() int32 {
	if h.value == 0 {
		panic("nil handle")
	}
	value := h.value
	h.value = 0
	return value
}

func (h *Handle) Set(value int32) {
	if value == 0 {
		panic("nil handle")
	}
	if h.value != 0 {
		panic("handle already set")
	}
	h.value = value
}

func (h *Handle) TakeOrNil() int32 {
	value := h.value
	h.value = 0
	return value
}

func MakeHandle(value int32) *Handle {
	if value == 0 {
		panic("nil handle")
	}
	return &Handle{value}
}

func Allocate(pinner *runtime.Pinner, size, align uintptr) unsafe.Pointer {
	pointer := allocateRaw(size, align)
	pinner.Pin(pointer)
	return pointer
}

func allocateRaw(size, align uintptr) unsafe.Pointer {
	if size == 0 {
		return nil
	}

	if size%align != 0 {
		panic(fmt.Sprintf("size %v is not compatible with alignment %v", size, align))
	}

	switch align {
	case 1:
		return unsafe.Pointer(unsafe.SliceData(make([]uint8, size)))
	case 2:
		return unsafe.Pointer(unsafe.SliceData(make([]uint16, size/align)))
	case 4:
		return unsafe.Pointer(unsafe.SliceData(make([]uint32, size/align)))
	case 8:
		return unsafe.Pointer(unsafe.SliceData(make([]uint64, size/align)))
	default:
		panic(fmt.Sprintf("unsupported alignment: %v", align))
	}
}

// Memory of arguments, for as long as the bindings have not taken them over.
var pinner = runtime.Pinner{}

func Unpin() {
	pinner.Unpin()
}

// Until the Go runtime is initialized, the WASI adapter asks for memory that the heap cannot give yet: a page for its state, and one for
// its stack. (The bindings' own package has runtime.sbrk for that, which Go's linker lets nobody use any more.)
var (
	early     [3 << 16]byte
	earlyUsed uintptr
	hasHeap   bool
)

func init() {
	hasHeap = true
}

func allocateEarly(size, align uintptr) unsafe.Pointer {
	start := uintptr(unsafe.Pointer(&early))
	begin := (start + earlyUsed + align - 1) &^ (align - 1)
	if begin+size > start+uintptr(len(early)) {
		return nil
	}
	earlyUsed = begin + size - start
	return unsafe.Add(unsafe.Pointer(&early), begin-start)
}

// Go's garbage collector looks at the clock, and its goroutines at whether they have something to wait for; the component model forbids calls of
// imports in cabi_realloc. The adapter answers with the last time that it has seen, and that nothing has come, for as long as this says so. See https://github.com/bytecodealliance/wasmtime/pull/13563.
//
//go:wasmimport wasi_snapshot_preview1 adapter_monotonic_clock_set_paused
func adapterMonotonicClockSetPaused(paused bool)

//go:wasmexport cabi_realloc
func cabiRealloc(oldPointer unsafe.Pointer, oldSize, align, newSize uintptr) unsafe.Pointer {
	if !hasHeap {
		return allocateEarly(newSize, align)
	}
	adapterMonotonicClockSetPaused(true)
	pointer := Allocate(&pinner, newSize, align)
	adapterMonotonicClockSetPaused(false)
	copy(unsafe.Slice((*byte)(pointer), newSize), unsafe.Slice((*byte)(oldPointer), oldSize))
	return pointer
}
