package weirgate_test

import (
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"weirgate"
)

// A control plane keeps the flows in shared memory, so that its next process continues them.
func ExampleAttachWorker() {
	expedited := uint8(46)
	d := weirgate.Defaults()
	d.VTEPv4 = &weirgate.VTEP{Public: netip.MustParseAddr("10.99.0.50"), MAC: weirgate.MAC{2, 0, 0, 0, 4, 1}}
	d.Subnets = []netip.Prefix{netip.MustParsePrefix("10.77.200.0/24")}
	d.Pool = []netip.Addr{netip.MustParseAddr("10.77.200.2")}
	d.Ports = []weirgate.Port{{MAC: weirgate.MAC{2, 0, 0, 0, 0, 1}, MTU: 1500}}
	d.Services = []weirgate.Service{{
		ID: 1, Protocol: weirgate.TCP, TableSize: weirgate.TableSize,
		Frontends:      []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:443")},
		Backends:       []weirgate.Backend{{Endpoint: netip.MustParseAddrPort("10.77.74.10:443"), Weight: 1}},
		PreserveClient: true,       // Backends see the clients,
		DSCP:           &expedited, // and their links hurry.
	}}
	d.MSS = weirgate.MSSOfPath
	d.OuterDSCP = weirgate.OuterDSCPCopy
	d.Masquerade = []netip.Addr{netip.MustParseAddr("198.51.100.7")}
	d.NonMasquerade = []netip.Prefix{netip.MustParsePrefix("10.77.0.0/16")}
	d.Routes = []weirgate.Route{
		{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("192.0.2.254")},
		{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Nowhere: true},
	}
	d.Timeouts.TCPEstablishedSeconds = 7440
	snapshot, err := weirgate.Compile(&d)
	if err != nil {
		panic(err)
	}

	config := weirgate.WorkerConfig{FlowsV4: 1024, FlowsV6: 1024, Services: 2, Workers: 1}
	bytes, err := weirgate.WorkerBytes(config)
	if err != nil {
		panic(err)
	}
	file, err := os.CreateTemp("", "flows")
	if err != nil {
		panic(err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if err := file.Truncate(int64(bytes)); err != nil {
		panic(err)
	}
	// Each process maps the file; one at a time has a worker in it.
	process := func() {
		memory, err := syscall.Mmap(int(file.Fd()), 0, bytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
		if err != nil {
			panic(err)
		}
		defer syscall.Munmap(memory)
		worker, adopted, err := weirgate.AttachWorker(config, snapshot, memory)
		if err == weirgate.StatusNotAdopted {
			fmt.Println("starts without flows")
			worker, err = weirgate.NewWorkerIn(config, memory)
		} else if err == nil {
			fmt.Printf("continues %d flows\n", adopted.Flows)
		}
		if err != nil {
			panic(err)
		}
		defer worker.Close()
		if err := worker.Age(snapshot, 0, 1024); err != nil {
			panic(err)
		}
	}
	process()
	process()
	// Output:
	// starts without flows
	// continues 0 flows
}
