package weirgate

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func mustEndpoint(text string) netip.AddrPort {
	return netip.MustParseAddrPort(text)
}

func TestAProblemNamesTheOffendingValue(t *testing.T) {
	for _, test := range []struct {
		status Status
		words  string
		spoil  func(*Description)
	}{
		{StatusVNI, "16777216", func(d *Description) { d.VNI = 1 << 24 }},
		{StatusWorkers, "0 workers", func(d *Description) { d.Workers = 0 }},
		{StatusNoVTEP, "10.99.0.11", func(d *Description) { d.VTEPv4 = nil }},
		{StatusPoolAddress, "10.1.1.1", func(d *Description) { d.Pool[0] = netip.MustParseAddr("10.1.1.1") }},
		{StatusAddressFamily, "peers[3]: public_address", func(d *Description) { d.Peers[3].Public = netip.Addr{} }},
		{StatusAddressFamily, "subnets[1]", func(d *Description) { d.Subnets[1] = netip.Prefix{} }},
		{StatusNotPrime, "services[1]: 1000 slots", func(d *Description) { d.Services[1].TableSize = 1000 }},
		{StatusUnknownPort, "port 11", func(d *Description) { d.Routes[0].Port = 11 }},
		{StatusTooManyPorts, "17 ports", func(d *Description) { d.Ports = make([]Port, PortsMax+1) }},
		{StatusMTUTooSmall, "1300", func(d *Description) { d.Ports[underlay].MTU = 1300 }},
		{StatusDuplicateFrontend, "192.0.2.1:30080 over tcp", func(d *Description) {
			d.Services = append(d.Services, d.Services[0])
		}},
	} {
		d := world()
		test.spoil(&d)
		_, err := Compile(&d)
		var problem *Problem
		if !errors.Is(err, test.status) || !errors.As(err, &problem) || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%v, not %q", err, test.words)
		}
	}
}

func TestASnapshotCanBeSentAndAttached(t *testing.T) {
	d := world()
	snapshot, err := Compile(&d)
	check(t, err)
	// From an odd address, as bytes from elsewhere may be.
	sent := append([]byte{0}, snapshot.Bytes()...)
	attached, err := AttachSnapshot(sent[1:])
	check(t, err)
	if attached.Generation() != 7 || !bytes.Equal(attached.Bytes(), snapshot.Bytes()) {
		t.Error("the snapshot is another one")
	}
	for length := 0; length < len(snapshot.Bytes()); length += 8 {
		if _, err := AttachSnapshot(sent[1 : 1+length]); err != StatusTooShort {
			t.Fatalf("cut to %d bytes: %v", length, err)
		}
	}
	if _, err := AttachSnapshot(make([]byte, 4096)); err != StatusNotASnapshot {
		t.Error(err)
	}
}

func TestWhatCannotBeIsRefused(t *testing.T) {
	if _, err := NewWorker(WorkerConfig{ID: WorkersMax, FlowsV4: 16, FlowsV6: 16}); err != StatusWorkers {
		t.Error(err)
	}
	if _, err := NewWorker(WorkerConfig{FlowsV4: 15, FlowsV6: 16}); err != StatusFlowCapacity {
		t.Error(err)
	}
	if _, err := NewBurst(BurstFramesMax+1, 0, bufferBytes); err == nil {
		t.Error("a burst of too many frames")
	}
	if _, err := NewBurst(1, 0, Headroom); err == nil {
		t.Error("buffers without room")
	}

	w, err := NewWorker(WorkerConfig{FlowsV4: 16, FlowsV6: 16})
	check(t, err)
	if _, _, err := w.NextUnresolved(); err != StatusEmpty {
		t.Error(err)
	}
	if _, err := w.PortCounters(PortsMax); err != StatusOutOfRange {
		t.Error(err)
	}
	if _, err := w.ServiceCounters(0); err != StatusOutOfRange {
		t.Error(err)
	}
	if err := w.CountDrop(255); err != StatusOutOfRange {
		t.Error(err)
	}
	check(t, w.CountDrop(DropReasons()[0]))
	if drops, err := w.Drops(); err != nil || drops[DropReasons()[0]] != 1 {
		t.Error(drops, err)
	}
	w.Close()
	if _, err := w.Counters(); err != StatusNullPointer {
		t.Error(err)
	}

	b, err := NewBurst(1, 0, bufferBytes)
	check(t, err)
	defer b.Close()
	if err := b.Add(0, make([]byte, bufferBytes-Headroom+1)); err != StatusFrameOutsideBuffer {
		t.Error(err)
	}
	check(t, b.Add(0, make([]byte, bufferBytes-Headroom)))
	if err := b.Add(0, nil); err != StatusBurstTooLong {
		t.Error(err)
	}
}

func TestVXLANHeadersAreWrittenAndRead(t *testing.T) {
	datagram, err := AppendVXLAN(nil, 0x123456)
	check(t, err)
	if !bytes.Equal(datagram, []byte{8, 0, 0, 0, 0x12, 0x34, 0x56, 0}) {
		t.Errorf("% x", datagram)
	}
	vni, inner, err := ParseVXLAN(append(datagram, "inner"...))
	if vni != 0x123456 || string(inner) != "inner" || err != nil {
		t.Error(vni, inner, err)
	}
	if _, _, err := ParseVXLAN(datagram[:7]); err != StatusTooShort {
		t.Error(err)
	}
	if _, _, err := ParseVXLAN(make([]byte, 8)); err != StatusVXLANFlags {
		t.Error(err)
	}
	if _, err := AppendVXLAN(nil, 1<<24); err != StatusVNI {
		t.Error(err)
	}
}

func TestNumbersWithoutANameHaveOneAllTheSame(t *testing.T) {
	if text := Status(4_000_000_000).Error(); !strings.Contains(text, "another version") {
		t.Error(text)
	}
	if DropReason(255).String() != "drop-reason-255" || DropReason(255).Text() != "" {
		t.Error(DropReason(255))
	}
	if Verdict(9).String() != "verdict-9" {
		t.Error(Verdict(9))
	}
}
