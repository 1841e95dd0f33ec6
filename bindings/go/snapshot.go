package weirgate

// #include <weirgate.h>
import "C"

import "unsafe"

const problemBytes = 512

// A Snapshot is a compiled description: plain bytes, never changed, for any
// number of workers at once.
type Snapshot struct {
	// Words keep the bytes aligned.
	words      []uint64
	length     int
	generation uint32
}

// Compile compiles a description.
//
// The error is a *Problem that names the offending value.
func Compile(d *Description) (*Snapshot, error) {
	if err := checkVersion(); err != nil {
		return nil, err
	}
	var memory arena
	defer memory.free()
	raw := d.describe(&memory)
	var problem [problemBytes]C.char
	var room, used C.size_t
	status := C.weirgate_snapshot_bytes(&raw, &room, &problem[0], problemBytes)
	if err := problemOf(status, &problem); err != nil {
		return nil, err
	}
	words := make([]uint64, (int(room)+7)/8)
	status = C.weirgate_snapshot_compile(&raw, unsafe.Pointer(&words[0]), room, &used, &problem[0], problemBytes)
	if err := problemOf(status, &problem); err != nil {
		return nil, err
	}
	// The memory after the snapshot was only needed to compile it.
	words = append([]uint64(nil), words[:(int(used)+7)/8]...)
	return &Snapshot{words: words, length: int(used), generation: d.Generation}, nil
}

func problemOf(status C.weirgate_status, problem *[problemBytes]C.char) error {
	if Status(status) == StatusOK {
		return nil
	}
	return &Problem{Status: Status(status), Text: C.GoString(&problem[0])}
}

// AttachSnapshot takes a copy of a snapshot's bytes, which may come from
// another process.
//
// The error is a Status where they are no snapshot of this version.
func AttachSnapshot(bytes []byte) (*Snapshot, error) {
	if err := checkVersion(); err != nil {
		return nil, err
	}
	// One word more than the bytes need: there is always a first one to point at.
	s := &Snapshot{words: make([]uint64, len(bytes)/8+1), length: len(bytes)}
	copy(s.Bytes(), bytes)
	var generation C.uint32_t
	if err := answer(C.weirgate_snapshot_generation(s.pointer(), C.size_t(s.length), &generation)); err != nil {
		return nil, err
	}
	s.generation = uint32(generation)
	return s, nil
}

func (s *Snapshot) pointer() unsafe.Pointer {
	return unsafe.Pointer(&s.words[0])
}

// Bytes returns the snapshot's bytes, to be stored or sent, not to be changed.
func (s *Snapshot) Bytes() []byte {
	return unsafe.Slice((*byte)(s.pointer()), s.length)
}

// Generation returns the generation that the description had.
func (s *Snapshot) Generation() uint32 {
	return s.generation
}
