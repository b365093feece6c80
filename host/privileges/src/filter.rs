//! Filters for system calls: what a confined thread may ask the kernel for. Anything else is answered with EPERM and, where the kernel's
//! audit is on, logged.

use std::collections::BTreeMap;
use std::io;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// What a confined thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Runs a plugin. It opens nothing, connects to nobody, and makes no memory executable; it talks by descriptors that are there.
    Plugin,
    /// Talks to servers and reads what they answer: connects, and opens files to read them.
    Network,
}

/// Memory, other threads of this process, signals, time, randomness, and descriptors that are there: what every thread of Rust's, of
/// wasmtime's and of tokio's needs.
const COMMON: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_exit,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_ftruncate,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    // Copies of a component's initial memory are mapped from such a file (wasmtime).
    libc::SYS_memfd_create,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_write,
    libc::SYS_writev,
    // Answered by another filter.
    libc::SYS_clone3,
];

/// Of `COMMON`, what aarch64 does not have.
#[cfg(target_arch = "x86_64")]
const COMMON_OLD: &[c_long] = &[libc::SYS_epoll_wait, libc::SYS_poll, libc::SYS_time];
#[cfg(not(target_arch = "x86_64"))]
const COMMON_OLD: &[c_long] = &[];

/// Clients of servers by TLS, look-ups of names by the C library (whose modules ask services of the machine and the kernel's addresses),
/// and files that are read.
const NETWORK: &[c_long] = &[
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fstatfs,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_getuid,
    libc::SYS_ioctl,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_newfstatat,
    libc::SYS_pipe2,
    libc::SYS_readlinkat,
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_socketpair,
    libc::SYS_statx,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

/// Of `NETWORK`, what aarch64 does not have.
#[cfg(target_arch = "x86_64")]
const NETWORK_OLD: &[c_long] = &[
    libc::SYS_access,
    libc::SYS_dup2,
    libc::SYS_lstat,
    libc::SYS_pipe,
    libc::SYS_readlink,
    libc::SYS_select,
    libc::SYS_stat,
];
#[cfg(not(target_arch = "x86_64"))]
const NETWORK_OLD: &[c_long] = &[];

/// System calls, each with conditions of which one has to hold; without any, it may be called in any way.
type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// The programs for a profile. The kernel asks all of them, and the strictest answer counts.
pub(crate) fn programs(profile: Profile) -> Result<[BpfProgram; 2], BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let allowed = SeccompFilter::new(rules(profile)?, refused, SeccompAction::Allow, arch)?;
    // Its flags are in memory, where no filter reads them. The C library takes clone(2) where there is no clone3.
    let absent = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let clone3 = Rules::from([(libc::SYS_clone3, Vec::new())]);
    let clone3 = SeccompFilter::new(clone3, SeccompAction::Allow, absent, arch)?;
    Ok([clone3.try_into()?, allowed.try_into()?])
}

fn rules(profile: Profile) -> Result<Rules, BackendError> {
    let mut rules: Rules = COMMON.iter().chain(COMMON_OLD).map(|call| (*call, Vec::new())).collect();
    // Threads, not processes.
    rules.insert(libc::SYS_clone, vec![all_of(0, bits(libc::CLONE_THREAD))?]);
    let names = [libc::PR_SET_NAME, libc::PR_GET_NAME].map(|option| is(0, bits(option)));
    rules.insert(libc::SYS_prctl, names.into_iter().collect::<Result<_, _>>()?);
    match profile {
        Profile::Plugin => {
            for call in [libc::SYS_mmap, libc::SYS_mprotect] {
                rules.insert(call, vec![none_of(2, bits(libc::PROT_EXEC))?]);
            }
        }
        Profile::Network => {
            rules.extend(NETWORK.iter().chain(NETWORK_OLD).map(|call| (*call, Vec::new())));
            let families = [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX, libc::AF_NETLINK];
            let families = families.map(|family| is(0, bits(family)));
            rules.insert(libc::SYS_socket, families.into_iter().collect::<Result<_, _>>()?);
            let writes = bits(libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC);
            rules.insert(libc::SYS_openat, vec![none_of(2, writes)?]);
            #[cfg(target_arch = "x86_64")]
            rules.insert(libc::SYS_open, vec![none_of(1, writes)?]);
        }
    }
    Ok(rules)
}

fn bits(value: libc::c_int) -> u64 {
    u64::from(value.cast_unsigned())
}

/// An argument is this.
fn is(argument: u8, value: u64) -> Result<SeccompRule, BackendError> {
    rule(argument, SeccompCmpOp::Eq, value)
}

/// All of these bits are set in an argument.
fn all_of(argument: u8, bits: u64) -> Result<SeccompRule, BackendError> {
    rule(argument, SeccompCmpOp::MaskedEq(bits), bits)
}

/// None of these bits is set in an argument.
fn none_of(argument: u8, bits: u64) -> Result<SeccompRule, BackendError> {
    rule(argument, SeccompCmpOp::MaskedEq(bits), 0)
}

fn rule(argument: u8, operation: SeccompCmpOp, value: u64) -> Result<SeccompRule, BackendError> {
    // The arguments in question are of the type int.
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operation, value)?;
    SeccompRule::new(vec![condition])
}

/// Has the kernel ask this program about each system call of this thread and of those that it starts, for good. `log`: what is refused goes
/// to the kernel's audit. By hand, since seccompiler passes no flags on.
pub(crate) fn install(program: &BpfProgram, log: bool) -> io::Result<()> {
    let length = program.len().try_into().map_err(io::Error::other)?;
    let whole = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    let flags = if log { libc::SECCOMP_FILTER_FLAG_LOG } else { 0 };
    // SAFETY: the kernel reads `len` instructions at `filter`, which `program` has for as long as it is borrowed, and copies them;
    // seccompiler's `sock_filter` has the kernel's layout.
    let outcome =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const whole) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
