package weirgate

// #include <stdlib.h>
// #include <weirgate.h>
import "C"

import (
	"errors"
	"net/netip"
	"unsafe"
)

// A WorkerConfig is a worker's configuration.
type WorkerConfig struct {
	// ID is below WorkersMax and, on one gateway, different for each worker.
	ID uint8
	// FlowsV4 and FlowsV6 are the most flows: 16 to 16777215 of each family.
	FlowsV4, FlowsV6 uint32
	// Services are counted where their ID is below this.
	Services uint32
	// Workers is how many workers the gateway has, as in its snapshots; 0
	// where the worker's memory is never to be adopted.
	Workers uint8
	// Fragments are the limits on fragmented datagrams.
	Fragments FragmentLimits
	// Secret holds random bits that nobody outside knows.
	Secret [4]uint64
}

// FragmentLimits are a worker's limits on fragmented datagrams. 0 stands for
// the usual number.
type FragmentLimits struct {
	// Datagrams that are tracked at a time.
	Datagrams uint32
	// HeldBytes of fragments that wait for their first one.
	HeldBytes uint32
	// WaitMS is how long, in milliseconds, a fragment waits for its first one.
	WaitMS uint32
}

// Adopted is the result of adopting an earlier worker's memory.
type Adopted struct {
	// Flows were adopted.
	Flows uint32
	// Damaged entries of the tables were dropped.
	Damaged uint32
	// Strayed flows were dropped because their replies do not arrive at this
	// worker under the snapshot.
	Strayed uint32
}

func (config *WorkerConfig) raw() C.weirgate_worker_config {
	raw := C.weirgate_worker_config{
		flows_v4:            C.uint32_t(config.FlowsV4),
		flows_v6:            C.uint32_t(config.FlowsV6),
		services:            C.uint32_t(config.Services),
		fragment_datagrams:  C.uint32_t(config.Fragments.Datagrams),
		fragment_held_bytes: C.uint32_t(config.Fragments.HeldBytes),
		fragment_wait_ms:    C.uint32_t(config.Fragments.WaitMS),
		id:                  C.uint8_t(config.ID),
		workers:             C.uint8_t(config.Workers),
	}
	for i, word := range config.Secret {
		raw.secret[i] = C.uint64_t(word)
	}
	return raw
}

// WorkerBytes reports how many bytes of memory a worker needs.
func WorkerBytes(config WorkerConfig) (int, error) {
	raw := config.raw()
	var bytes C.size_t
	err := answer(C.weirgate_worker_bytes(&raw, &bytes))
	return int(bytes), err
}

// A Worker owns its flows and counters, in C memory. One goroutine at a time
// may change it (another one gets StatusBusy); any may read its counters. It
// must be closed, and not be used after that.
type Worker struct {
	memory unsafe.Pointer
	worker *C.weirgate_worker
}

// NewWorker makes a worker without flows. Nothing is allocated after this.
//
// The error is a Status where the configuration is invalid.
func NewWorker(config WorkerConfig) (*Worker, error) {
	if err := checkVersion(); err != nil {
		return nil, err
	}
	raw := config.raw()
	var bytes C.size_t
	if err := answer(C.weirgate_worker_bytes(&raw, &bytes)); err != nil {
		return nil, err
	}
	// C11 asks for whole multiples of the alignment.
	const alignment = C.WEIRGATE_WORKER_ALIGNMENT
	memory := C.aligned_alloc(alignment, (bytes+alignment-1)/alignment*alignment)
	if memory == nil {
		return nil, errors.New("weirgate: no memory for the worker")
	}
	w := &Worker{memory: memory}
	if err := answer(C.weirgate_worker_init(&raw, memory, bytes, &w.worker)); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// NewWorkerIn makes a worker without flows in memory that the caller keeps:
// WorkerBytes of it, page-aligned and not Go's, such as a shared mapping of
// syscall.Mmap. It outlives Close, and AttachWorker adopts it.
func NewWorkerIn(config WorkerConfig, memory []byte) (*Worker, error) {
	if err := checkVersion(); err != nil {
		return nil, err
	}
	w, raw := &Worker{}, config.raw()
	if len(memory) == 0 {
		return nil, StatusTooShort
	}
	err := answer(C.weirgate_worker_init(&raw, unsafe.Pointer(&memory[0]), C.size_t(len(memory)), &w.worker))
	if err != nil {
		return nil, err
	}
	return w, nil
}

// AttachWorker makes a worker that adopts the flows that an earlier one left in
// memory that the caller kept, even if it ended in the middle of a call.
// Nobody else may use that memory any more. The configuration is as the
// earlier one's, except for the secret; the snapshot is the current one. Flows
// whose replies lead to another worker under it are dropped.
//
// The error is StatusNotAdopted where the memory holds no such worker.
func AttachWorker(config WorkerConfig, s *Snapshot, memory []byte) (*Worker, Adopted, error) {
	if err := checkVersion(); err != nil {
		return nil, Adopted{}, err
	}
	w, raw := &Worker{}, config.raw()
	if len(memory) == 0 {
		return nil, Adopted{}, StatusTooShort
	}
	var adopted C.weirgate_adopted
	at, bytes := unsafe.Pointer(&memory[0]), C.size_t(len(memory))
	err := answer(C.weirgate_worker_attach(&raw, s.pointer(), C.size_t(s.length), at, bytes, &w.worker, &adopted))
	if err != nil {
		return nil, Adopted{}, err
	}
	return w, Adopted{
		Flows:   uint32(adopted.flows),
		Damaged: uint32(adopted.damaged),
		Strayed: uint32(adopted.strayed),
	}, nil
}

// Close frees the worker's memory, with its flows, unless the caller keeps it.
func (w *Worker) Close() {
	C.free(w.memory)
	w.memory, w.worker = nil, nil
}

// Process sets the verdict of every frame of the burst, in place.
//
//   - nowNS: nanoseconds on a monotonic clock; must not go backwards.
//
// On an error, which is a Status, nothing has been processed.
func (w *Worker) Process(s *Snapshot, nowNS uint64, b *Burst) error {
	return answer(C.weirgate_worker_process(w.worker, s.pointer(), C.size_t(s.length), C.uint64_t(nowNS), b.raw))
}

// Age removes flows past their idle timeout, among the next budget of each family.
// Call it once in a loop.
func (w *Worker) Age(s *Snapshot, nowNS uint64, budget uint32) error {
	return answer(C.weirgate_worker_age(w.worker, s.pointer(), C.size_t(s.length), C.uint64_t(nowNS), C.uint32_t(budget)))
}

// Flows reports how many flows there are of each family.
func (w *Worker) Flows() (v4, v6 uint32, err error) {
	var rawV4, rawV6 C.uint32_t
	err = answer(C.weirgate_worker_flows(w.worker, &rawV4, &rawV6))
	return uint32(rawV4), uint32(rawV6), err
}

// NextUnresolved returns the next neighbour whose link address packets wait for,
// and its port. The error is StatusEmpty where there is none.
func (w *Worker) NextUnresolved() (port uint8, address netip.Addr, err error) {
	var raw C.weirgate_unresolved
	if err := answer(C.weirgate_worker_next_unresolved(w.worker, &raw)); err != nil {
		return 0, netip.Addr{}, err
	}
	var bytes [16]byte
	for i, b := range raw.address.bytes {
		bytes[i] = byte(b)
	}
	if raw.address.family == C.WEIRGATE_FAMILY_V4 {
		return uint8(raw.port), netip.AddrFrom4(*(*[4]byte)(bytes[:4])), nil
	}
	return uint8(raw.port), netip.AddrFrom16(bytes), nil
}

// CountDrop counts a drop of the caller's own, such as a ring without room.
func (w *Worker) CountDrop(reason DropReason) error {
	return answer(C.weirgate_worker_count_drop(w.worker, C.uint8_t(reason)))
}

// Traffic is a number of packets and of their bytes.
type Traffic struct {
	Packets, Bytes uint64
}

func traffic(raw C.weirgate_traffic) Traffic {
	return Traffic{Packets: uint64(raw.packets), Bytes: uint64(raw.bytes)}
}

// Counters are a worker's counters, except those of its ports, services and drops.
type Counters struct {
	// Host counts frames that went to the host.
	Host uint64
	// Handovers counts frames that went to the worker that owns their flow.
	Handovers uint64
	// FragmentsHeld counts fragments that were held, for their first one or
	// for buffers to be fragmented into.
	FragmentsHeld uint64
	// FragmentsCreated counts fragments made of packets too large for their egress,
	// without the first of each packet.
	FragmentsCreated uint64
	// FlowsCreated counts flows that were created.
	FlowsCreated uint64
	// FlowsExpired counts flows that were removed after their idle timeout.
	FlowsExpired uint64
	// FlowsReopened counts flows whose connection had ended, and that a new
	// one of the same tuple reopened.
	FlowsReopened uint64
	// FlowsReset counts flows that ended with a reset before any reply.
	FlowsReset uint64
	// EvictedHalfOpen counts flows evicted while half-open: by new ones in a
	// full table, or by flows of the same client in one that fills.
	EvictedHalfOpen uint64
	// EvictedOneWay counts flows evicted by new ones in a full table: UDP and
	// echo requests without a reply.
	EvictedOneWay uint64
	// EvictedClosing: as before, connections that had ended or were about to.
	EvictedClosing uint64
	// EvictedUnassured: as before, answered but never assured.
	EvictedUnassured uint64
	// EvictedStream: as before, UDP that went back and forth.
	EvictedStream uint64
	// ForwardedStateless counts packets forwarded statelessly, in a full table
	// or past the limit on new flows.
	ForwardedStateless uint64
	// EchoesAnswered counts pings that were answered.
	EchoesAnswered uint64
	// ErrorsTranslated counts ICMP errors from others about packets of flows,
	// translated and forwarded.
	ErrorsTranslated uint64
	// ErrorsSent counts ICMP errors that the gateway itself sent.
	ErrorsSent uint64
	// ResetsSent counts TCP resets that the gateway itself sent.
	ResetsSent uint64
}

func counters(raw C.weirgate_counters) Counters {
	return Counters{
		Host:               uint64(raw.host),
		Handovers:          uint64(raw.handovers),
		FragmentsHeld:      uint64(raw.fragments_held),
		FragmentsCreated:   uint64(raw.fragments_created),
		FlowsCreated:       uint64(raw.flows_created),
		FlowsExpired:       uint64(raw.flows_expired),
		FlowsReopened:      uint64(raw.flows_reopened),
		FlowsReset:         uint64(raw.flows_reset),
		EvictedHalfOpen:    uint64(raw.evicted_half_open),
		EvictedOneWay:      uint64(raw.evicted_one_way),
		EvictedClosing:     uint64(raw.evicted_closing),
		EvictedUnassured:   uint64(raw.evicted_unassured),
		EvictedStream:      uint64(raw.evicted_stream),
		ForwardedStateless: uint64(raw.forwarded_stateless),
		EchoesAnswered:     uint64(raw.echoes_answered),
		ErrorsTranslated:   uint64(raw.errors_translated),
		ErrorsSent:         uint64(raw.errors_sent),
		ResetsSent:         uint64(raw.resets_sent),
	}
}

// Counters reads the counters. Any goroutine may, at any time before Close.
func (w *Worker) Counters() (Counters, error) {
	var raw C.weirgate_counters
	err := answer(C.weirgate_worker_counters(w.worker, &raw))
	return counters(raw), err
}

// Drops reads how many frames were dropped, by reason. Any goroutine may, at
// any time before Close.
func (w *Worker) Drops() (map[DropReason]uint64, error) {
	reasons := DropReasons()
	counts := make([]C.uint64_t, len(reasons))
	if err := answer(C.weirgate_worker_drops(w.worker, &counts[0], C.size_t(len(counts)))); err != nil {
		return nil, err
	}
	drops := make(map[DropReason]uint64, len(reasons))
	for i, reason := range reasons {
		drops[reason] = uint64(counts[i])
	}
	return drops, nil
}

// PortCounters are the traffic of one port, as frames with their Ethernet headers.
type PortCounters struct {
	Received, Transmitted Traffic
}

// PortCounters reads the counters of a port. Any goroutine may, at any time before Close.
func (w *Worker) PortCounters(port uint8) (PortCounters, error) {
	var raw C.weirgate_port_counters
	err := answer(C.weirgate_worker_port_counters(w.worker, C.uint8_t(port), &raw))
	return PortCounters{Received: traffic(raw.received), Transmitted: traffic(raw.transmitted)}, err
}

// ServiceCounters are the traffic of one service, as IP packets on the client's side.
type ServiceCounters struct {
	// Original is from clients, Reply to them.
	Original, Reply Traffic
	// Flows counts those that were created.
	Flows uint64
}

// ServiceCounters reads the counters of a service by its ID. Any goroutine
// may, at any time before Close.
func (w *Worker) ServiceCounters(id uint32) (ServiceCounters, error) {
	var raw C.weirgate_service_counters
	err := answer(C.weirgate_worker_service_counters(w.worker, C.uint32_t(id), &raw))
	return ServiceCounters{Original: traffic(raw.original), Reply: traffic(raw.reply), Flows: uint64(raw.flows)}, err
}
