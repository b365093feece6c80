//! What the image has.

use anyhow::{Context, Result, ensure};

use super::docker::{Docker, needed};

#[test]
fn the_image_has_what_manifests_call_and_needs_no_writable_root() -> Result<()> {
    let Some(archive) = needed("FLANNELD_TEST_IMAGE")? else { return Ok(()) };
    let Some(programs) = needed("FLANNELD_TEST_DOCKER")? else { return Ok(()) };
    let Some(docker) = Docker::start(&programs)? else { return Ok(()) };
    let image = docker.load(&archive)?;
    let outside = docker.directory("outside")?;
    let mount = format!("--volume={}:/outside", outside.display());
    let run = |options: &[&str], command: &[&str]| docker.run(&image, options, command);

    let version = run(&[], &["/opt/bin/flanneld", "--version"])?;
    ensure!(version.starts_with("v0."), "{version}");
    ensure!(docker.entry_point(&image)? == "[/opt/bin/flanneld]");

    run(&[&mount], &["cp", "-f", "/flannel", "/outside/flannel"])?;
    ensure!(outside.join("flannel").metadata()?.len() > 100_000);
    run(&[&mount], &["/opt/bin/install-conf", "/etc/os-release", "/outside/10-flannel.conflist"])?;
    ensure!(std::fs::read_to_string(outside.join("10-flannel.conflist"))?.contains("Debian"));
    std::fs::write(
        outside.join("subnet.env"),
        "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.7.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n",
    )?;
    run(&[&mount], &["/opt/bin/mk-docker-opts.sh", "-f", "/outside/subnet.env", "-d", "/outside/docker"])?;
    let options =
        std::fs::read_to_string(outside.join("docker")).context("mk-docker-opts.sh wrote nothing")?;
    ensure!(options.contains("--bip=10.5.7.1/24"), "{options}");

    let versions = run(&["--env=CNI_COMMAND=VERSION"], &["/flannel"])?;
    ensure!(versions.contains("supportedVersions"), "{versions}");

    ensure!(run(&[], &["nft", "--version"])?.starts_with("nftables v"));
    ensure!(run(&[], &["wg", "--version"])?.starts_with("wireguard-tools v"));
    ensure!(run(&[], &["iptables", "--version"])?.contains("(nf_tables)"));
    ensure!(run(&[], &["ip6tables-legacy", "--version"])?.contains("(legacy)"));
    let admin = "--cap-add=NET_ADMIN";
    run(&[admin], &["nft", "add", "table", "ip", "flannel-ipv4"])?;
    for program in ["iptables", "ip6tables"] {
        for variant in ["", "-nft", "-legacy"] {
            run(&[admin], &[&format!("{program}{variant}-save"), "-t", "nat"])?;
            // With modules of its own, and the lock of the legacy variant.
            let program = format!("{program}{variant}");
            let rule = ["-m", "comment", "--comment", "x", "-j", "MASQUERADE"];
            run(&[admin], &[&[program.as_str(), "-t", "nat", "-A", "POSTROUTING"], &rule[..]].concat())?;
        }
    }
    let bundle = run(&[&mount], &["cp", "/etc/ssl/certs/ca-certificates.crt", "/outside/ca.crt"]);
    bundle.context("the authorities")?;
    let bundle = std::fs::read_to_string(outside.join("ca.crt"))?;
    ensure!(bundle.matches("-----BEGIN CERTIFICATE-----").count() > 50);
    Ok(())
}
