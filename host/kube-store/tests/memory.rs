//! What a large cluster takes of memory: what is kept of its nodes, and hardly more while they are read.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering};

use flannel_fake_kube::{FakeKube, Mode, node};
use flannel_kube_api::{ClusterAccess, KubeApi, NodeEvent, Reflector, ReflectorOptions};
use flannel_kube_store::peers::PeerMap;
use flannel_kube_store::prefix::Keys;
use flannel_model::network_config::NetworkConfig;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

const NODES: usize = 3000;
/// Bytes for each node, in the reflector and in the map; half of it are the lease.
const KEPT: i64 = 1200;
/// Bytes that reading takes besides, however many nodes there are: buffers, and tables that grow.
const READING: i64 = 1 << 20;

/// The system's allocator, which counts what is taken and not given back by all threads but the API server's.
struct Counting;

thread_local! {
    static IS_SERVER: Cell<bool> = const { Cell::new(false) };
}

static TAKEN: AtomicI64 = AtomicI64::new(0);
static MOST: AtomicI64 = AtomicI64::new(0);

fn count(bytes: usize, sign: i64) {
    if !IS_SERVER.try_with(Cell::get).unwrap_or(false) {
        let bytes = sign * i64::try_from(bytes).unwrap_or(i64::MAX);
        let taken = TAKEN.fetch_add(bytes, Ordering::Relaxed) + bytes;
        MOST.fetch_max(taken, Ordering::Relaxed);
    }
}

// SAFETY: all is the system's allocator's doing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// An API server with many nodes, on threads of its own.
fn server(mode: Mode) -> (Runtime, FakeKube) {
    let is_server = || IS_SERVER.set(true);
    let runtime =
        Builder::new_multi_thread().worker_threads(1).on_thread_start(is_server).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let making = runtime.spawn(async move {
        let server = FakeKube::start().await;
        server.set_mode(mode);
        for index in 0..NODES {
            let (high, low) = (index / 256, index % 256);
            let (cidr, address) = (format!("10.{high}.{low}.0/24"), format!("172.16.{high}.{low}"));
            let data = format!(r#"{{"VNI":1,"VtepMAC":"02:00:00:00:{high:02x}:{low:02x}"}}"#);
            let annotations = [
                ("flannel.alpha.coreos.com/kube-subnet-manager", "true"),
                ("flannel.alpha.coreos.com/backend-type", "vxlan"),
                ("flannel.alpha.coreos.com/backend-data", &data),
                ("flannel.alpha.coreos.com/public-ip", &address),
            ];
            server.create(node(&format!("worker-{index:05}"), &[&cidr], &annotations));
        }
        server.compact();
        server
    });
    let server = runtime.block_on(making).expect("a server");
    (runtime, server)
}

/// Bytes that are kept when all nodes have been read, and how many more there were at most meanwhile.
fn measure(mode: Mode) -> (i64, i64) {
    let (running, server) = server(mode);
    let access = ClusterAccess { api_url: Some(server.url()), ..ClusterAccess::default() };
    let keys = Keys::new("flannel.alpha.coreos.com").expect("a prefix");
    let config = NetworkConfig::parse_for_assigned_subnets(r#"{"Network":"10.0.0.0/8"}"#).expect("a config");
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let measured = runtime.block_on(async {
        let before = TAKEN.load(Ordering::Relaxed);
        let mut map = PeerMap::new(keys.clone(), config, "own");
        let api = KubeApi::new(access, &keys.prefix);
        let (reflector, _state) = Reflector::new(api, ReflectorOptions::peers(None));
        let (events, mut told) = mpsc::channel(16);
        let reading = tokio::spawn(reflector.run(events));
        MOST.store(before, Ordering::Relaxed);
        loop {
            let event = told.recv().await.expect("it goes on");
            let is_end = event == NodeEvent::Synced;
            map.take(event);
            if is_end {
                break;
            }
        }
        assert_eq!(map.leases().len(), NODES);
        let (kept, most) = (TAKEN.load(Ordering::Relaxed), MOST.load(Ordering::Relaxed));
        reading.abort();
        (kept - before, most - kept)
    });
    IS_SERVER.set(true);
    drop((server, running));
    IS_SERVER.set(false);
    measured
}

#[test]
fn nodes_are_not_in_memory_all_at_once_and_little_is_kept_of_them() {
    for mode in [Mode::V1_36, Mode::V1_26] {
        let (kept, more) = measure(mode);
        let nodes = i64::try_from(NODES).expect("a number");
        println!("{mode:?}: {} bytes for each node, {more} more at most while they were read", kept / nodes);
        assert!(kept < nodes * KEPT, "{mode:?}: {kept} bytes");
        assert!(more < READING, "{mode:?}: {more} bytes");
    }
}
