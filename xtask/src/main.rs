//! Everything one does with this project.

mod alone;
mod bindings;
mod build;
mod cargo;
mod clouds;
mod control_plane;
mod deny;
mod failures;
mod fuzz;
mod go;
mod image;
mod kernels;
mod kubernetes_node;
mod kubernetes_tools;
mod lab;
mod languages;
mod package;
mod pinned;
mod plugins;
mod reference;
mod release;
mod setup;
mod test;
mod tools;
mod unit;
mod upstream;
mod upstream_suite;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Everything one does with this project. Each command installs what it needs, and says so.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check for, and install where possible, what building and testing need
    Setup,
    /// Build the plugins: plugins/*.wasm
    Plugins,
    /// Build the examples in other languages than Rust, and the tests' components in them: target/components/*.wasm
    Languages,
    /// Install the clouds' own Python libraries, for the tests of clouds
    Clouds,
    /// Build the Kubernetes control plane that tests run, once a machine, and print where it is: tests/control-plane/
    ControlPlane,
    /// Get kubectl and helm, for the tests of deploy/: target/tools/kubernetes/
    KubernetesTools,
    /// Build and find what the tests' Kubernetes nodes run, once a machine, and print where it is: tests/kubernetes-node/, tests/containerd/
    KubernetesNode,
    /// Build upstream's flanneld for tests and benchmarks that have it beside ours, once a machine, and print where it is: tests/upstream/
    Upstream,
    /// Render the contract in wit/ as documentation: docs/wit.md
    Reference,
    /// Run upstream's own functional suite on the container image, in a Docker daemon of its own: tests/upstream-suite/
    UpstreamSuite(upstream_suite::Options),
    /// Generate the contract's bindings that `flanneld plugin new` writes: Go's and C's
    Bindings,
    /// Build what authors have from registries, and see whether these would take it: target/packages/
    Packages,
    /// Build the daemon with its built-in plugins, and the plugins: target/release/flanneld
    Build,
    /// Build the daemon for others: with the list of its dependencies inside, and an SBOM beside it
    Release,
    /// Build the container image, static, for each architecture, with an SBOM: deploy/image/README.md
    Image(image::Options),
    /// Feed what strangers write with what libFuzzer finds worth a try: fuzz/README.md
    Fuzz(fuzz::Options),
    /// Run all tests, and on other kernels what this machine's cannot show; arguments behind `--` go to `cargo test`
    Test {
        /// Leave other kernels out
        #[arg(long)]
        this_kernel: bool,
        /// Arguments for `cargo test`, such as a test's name
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Check formatting, and lint everything
    Lint,
    /// Measure: `bench --help`, and `bench languages`, what plugins cost in each language
    Bench(lab::Arguments),
    /// A cluster of nodes in network namespaces: real daemons, real packets, and what happens when things break: `demo --help`
    Demo(lab::Arguments),
    /// Random faults of all kinds on such a cluster, and whether it is as good as new afterwards: `soak --help`
    Soak(lab::Arguments),
    /// Run all tests on other kernels, in virtual machines, and show where each ran
    Kernels(kernels::Options),
    /// Run a command under another kernel: in a virtual machine, with this machine's own root file system, read-only
    Vm(vm::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Setup => setup::everything(),
        Command::Plugins => plugins::build(plugins::Wanted::All).map(drop),
        Command::Languages => languages::build(),
        Command::Clouds => clouds::install(),
        Command::ControlPlane => control_plane::print(),
        Command::KubernetesTools => kubernetes_tools::install(),
        Command::KubernetesNode => kubernetes_node::print(),
        Command::Upstream => upstream::print(),
        Command::UpstreamSuite(options) => upstream_suite::run_it(&options),
        Command::Reference => reference::write(),
        Command::Bindings => bindings::write(),
        Command::Packages => package::check(),
        Command::Build => build::all(),
        Command::Release => release::build(),
        Command::Image(options) => image::build(&options),
        Command::Fuzz(options) => fuzz::all(&options),
        Command::Test { this_kernel, arguments } => test::all(&arguments, !this_kernel),
        Command::Lint => test::lint(),
        Command::Bench(arguments) => lab::bench(&arguments),
        Command::Demo(arguments) => lab::demo(&arguments),
        Command::Soak(arguments) => lab::soak(&arguments),
        Command::Kernels(options) => kernels::run(&options),
        Command::Vm(options) => return vm_status(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// The status of the command in the guest is ours.
fn vm_status(options: &vm::Options) -> ExitCode {
    vm::run(options).unwrap_or_else(|error| failed(&error))
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
