//! The plugin as a runtime starts it: the program, with delegates that write down what they get.

mod support;

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use serde_json::{Value, json};

use support::{Answer, Node};

#[test]
fn an_add_is_the_delegates_with_the_rendered_configuration_and_the_same_environment() {
    let node = Node::new();
    let result = "{\"cniVersion\":\"1.0.0\",\n  \"ips\": [ {\"address\": \"10.244.7.2/24\"} ] }\n";
    node.answers("bridge", "ADD", 0, result);
    let answer =
        node.request("ADD", "c1").variable("CNI_ARGS", "K8S_POD_NAME=x").config(node.config("1.0.0"));
    assert_eq!(answer.run(), Answer { status: 0, stdout: result.to_owned(), stderr: String::new() });
    let rendered = json!({
        "cniVersion": "1.0.0",
        "hairpinMode": true,
        "ipMasq": false,
        "ipam": {
            "ranges": [[{"subnet": "10.244.7.0/24"}]],
            "routes": [{"dst": "10.244.0.0/16"}],
            "type": "host-local",
        },
        "isGateway": true,
        "mtu": 1450,
        "name": "cbr0",
        "type": "bridge",
    });
    assert_eq!(node.heard("bridge", "ADD", "c1"), rendered);
    let environment = node.environment("bridge", "ADD", "c1");
    for line in [
        "CNI_COMMAND=ADD",
        "CNI_CONTAINERID=c1",
        "CNI_IFNAME=eth0",
        "CNI_NETNS=/run/netns/x",
        "CNI_ARGS=K8S_POD_NAME=x",
    ] {
        assert!(environment.lines().any(|it| it == line), "{line}: {environment}");
    }
    let mode = node.saved("c1").metadata().expect("saved").permissions().mode() & 0o7777;
    assert_eq!(mode, 0o600);
}

#[test]
fn a_del_undoes_what_the_add_did_whatever_the_subnet_file_says_by_now() {
    let node = Node::new();
    node.request("ADD", "c1").run().ok();
    let added = node.heard("bridge", "ADD", "c1");
    std::fs::write(node.subnet_file(), "FLANNEL_NETWORK=10.5.0.0/16\n").expect("written");
    assert_eq!(node.request("DEL", "c1").without("CNI_NETNS").run().ok(), "");
    assert_eq!(node.heard("bridge", "DEL", "c1"), added);
    assert!(!node.saved("c1").exists());
}

#[test]
fn a_del_can_come_again_or_without_an_add() {
    let node = Node::new();
    for container in ["c1", "c1"] {
        assert_eq!(node.request("DEL", container).run().ok(), "");
    }
    assert!(!node.has_heard("bridge", "DEL", "c1"));
}

#[test]
fn what_is_saved_stays_until_the_delegate_has_succeeded() {
    let node = Node::new();
    node.request("ADD", "c1").run().ok();
    node.answers("bridge", "DEL", 1, r#"{"cniVersion":"1.0.0","code":101,"msg":"busy","details":"more"}"#);
    let error = node.request("DEL", "c1").run().error();
    assert_eq!(
        (&error["code"], &error["msg"], &error["details"]),
        (&json!(101), &json!("busy"), &json!("more"))
    );
    assert!(node.saved("c1").exists());
    node.answers("bridge", "DEL", 0, "");
    node.request("DEL", "c1").run().ok();
    assert!(!node.saved("c1").exists());
}

#[test]
fn what_was_saved_and_cannot_be_used_is_said_and_costs_the_runtime_nothing() {
    let node = Node::new();
    for broken in ["", "{\"type\":", "[]", "{}"] {
        node.save("c1", broken);
        let answer = node.request("DEL", "c1").run();
        assert!(answer.stderr.contains("c1"), "{broken}: {answer:?}");
        assert_eq!(answer.ok(), "");
        assert!(!node.saved("c1").exists());
    }
}

#[test]
fn what_upstreams_plugin_has_saved_is_undone() {
    let node = Node::new();
    let theirs = json!({"cniVersion": "1.0.0", "name": "cbr0", "type": "bridge", "mtu": 1400});
    node.save("c1", &theirs.to_string());
    node.request("DEL", "c1").run().ok();
    assert_eq!(node.heard("bridge", "DEL", "c1"), theirs);
}

#[test]
fn an_error_of_the_delegate_is_passed_on_and_one_without_words_is_given_some() {
    let node = Node::new();
    node.answers("bridge", "ADD", 1, r#"{"code":11,"msg":"wait"}"#);
    let error = node.request("ADD", "c1").run().error();
    assert_eq!(
        (&error["code"], &error["msg"], &error["cniVersion"]),
        (&json!(11), &json!("wait"), &json!("1.0.0"))
    );
    node.answers("bridge", "ADD", 3, "panic: oh");
    let error = node.request("ADD", "c1").run().error();
    let text = error.to_string();
    assert!(error["code"] == 999 && text.contains("bridge") && text.contains("exit status: 3"), "{text}");
    assert!(text.contains("panic: oh"), "{text}");
}

#[test]
fn without_a_subnet_file_the_error_says_who_writes_it() {
    let node = Node::new();
    std::fs::remove_file(node.subnet_file()).expect("removed");
    let error = node.request("ADD", "c1").run().error();
    let text = error["msg"].as_str().expect("a message");
    assert!(
        error["code"] == 11 && text.contains("subnet.env: no such file") && text.contains("flanneld"),
        "{text}"
    );
    assert!(!node.saved("c1").exists() && !node.has_heard("bridge", "ADD", "c1"));
}

#[test]
fn without_a_delegate_nothing_is_saved_and_the_error_says_where_it_was_looked_for() {
    let node = Node::new();
    let config = node.config_with("1.0.0", &json!({"delegate": {"type": "ptp"}}));
    let error = node.request("ADD", "c1").config(config).run().error();
    let text = error["msg"].as_str().expect("a message");
    assert!(text.contains("ptp") && text.contains(node.plugins().to_str().expect("UTF-8")), "{text}");
    assert!(!node.saved("c1").exists());
}

#[test]
fn an_id_that_leads_elsewhere_is_refused_by_every_command() {
    let node = Node::new();
    let outside = node.top().join("outside");
    std::fs::write(&outside, r#"{"type":"bridge"}"#).expect("written");
    let absolute = outside.to_str().expect("UTF-8");
    for hostile in ["../outside", absolute, "..", ".", "a/../../outside", ".outside", ""] {
        for command in ["ADD", "DEL", "CHECK"] {
            let error = node.request(command, hostile).run().error();
            assert!(
                error["code"] == 4 && error.to_string().contains("CNI_CONTAINERID"),
                "{command} {hostile}: {error}"
            );
        }
    }
    assert!(outside.exists() && !node.has_run("bridge"));
}

#[test]
fn a_saved_type_that_leads_elsewhere_is_not_run() {
    let node = Node::new();
    let program = node.top().join("program");
    symlink("/bin/true", &program).expect("link");
    node.save("c1", r#"{"type":"../program"}"#);
    let error = node.request("DEL", "c1").run().error();
    assert!(error["msg"].as_str().is_some_and(|msg| msg.contains("../program")), "{error}");
}

#[test]
fn two_adds_at_once_have_a_configuration_each() {
    let node = Node::new();
    let containers: Vec<String> = (0..8).map(|number| format!("c{number}")).collect();
    std::thread::scope(|scope| {
        for container in &containers {
            scope.spawn(|| node.request("ADD", container).variable("CNI_IFNAME", container).run().ok());
        }
    });
    for container in &containers {
        let saved: Value =
            serde_json::from_slice(&std::fs::read(node.saved(container)).expect("saved")).expect("JSON");
        assert_eq!(saved["flannel.ifname"], container.as_str());
    }
    assert_eq!(node.data_dir().read_dir().expect("listing").count(), containers.len());
}

#[test]
fn two_adds_of_one_container_at_once_leave_a_whole_file() {
    let node = Node::new();
    let long = "x".repeat(200_000);
    let config = node.config_with("1.0.0", &json!({"delegate": {"comment": long}}));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| node.request("ADD", "c1").config(config.clone()).run().ok());
        }
    });
    let saved: Value =
        serde_json::from_slice(&std::fs::read(node.saved("c1")).expect("saved")).expect("JSON");
    assert_eq!(saved["comment"].as_str().map(str::len), Some(long.len()));
}

#[test]
fn a_full_disk_leaves_nothing_and_starts_no_delegate() {
    let node = Node::new();
    let error = node.request("ADD", "c1").on_a_full_disk().run().error();
    assert!(
        error["code"] == 5 && error["msg"].as_str().is_some_and(|msg| msg.contains("dataDir")),
        "{error}"
    );
    assert_eq!(node.data_dir().read_dir().expect("listing").count(), 0);
    assert!(!node.has_run("bridge"));
}

#[test]
fn a_directory_that_cannot_be_made_is_named_and_no_delegate_starts() {
    let node = Node::new();
    std::fs::write(node.data_dir(), "a file").expect("written");
    let error = node.request("ADD", "c1").run().error();
    let place = node.data_dir().display().to_string();
    assert!(error["code"] == 5 && error["msg"].as_str().is_some_and(|msg| msg.contains(&place)), "{error}");
    assert!(!node.has_run("bridge"));
}

#[test]
fn the_version_is_the_callers_and_all_are_supported() {
    let node = Node::new();
    let all = json!(["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
    for (asked, answered) in [(r#"{"cniVersion":"0.4.0"}"#, "0.4.0"), ("", "1.1.0"), ("rubbish", "1.1.0")] {
        let answer: Value =
            serde_json::from_str(&node.request("VERSION", "").config(asked).run().ok()).expect("JSON");
        assert_eq!(answer, json!({"cniVersion": answered, "supportedVersions": all}));
    }
}

#[test]
fn a_version_that_is_unknown_is_refused_with_those_that_are_known() {
    let node = Node::new();
    let error = node.request("ADD", "c1").config(node.config("3.0.0")).run().error();
    assert!(error["code"] == 1 && error.to_string().contains("1.1.0"), "{error}");
}

#[test]
fn commands_that_a_version_does_not_have_are_refused() {
    let node = Node::new();
    for (command, version) in [("CHECK", "0.3.1"), ("STATUS", "1.0.0"), ("GC", "1.0.0")] {
        let error = node.request(command, "c1").config(node.config(version)).run().error();
        assert!(error["code"] == 1 && error.to_string().contains(command), "{command}: {error}");
    }
    assert_eq!(node.request("CHECK", "c1").config(node.config("0.4.0")).run().ok(), "");
}

#[test]
fn a_variable_that_is_missing_is_named() {
    let node = Node::new();
    for (command, variable) in [
        ("ADD", "CNI_CONTAINERID"),
        ("ADD", "CNI_NETNS"),
        ("ADD", "CNI_IFNAME"),
        ("ADD", "CNI_PATH"),
        ("DEL", "CNI_IFNAME"),
        ("CHECK", "CNI_NETNS"),
        ("GC", "CNI_PATH"),
    ] {
        let error = node.request(command, "c1").without(variable).run().error();
        assert!(error["code"] == 4 && error.to_string().contains(variable), "{command} {variable}: {error}");
        let error = node.request(command, "c1").variable(variable, "").run().error();
        assert!(error["code"] == 4 && error.to_string().contains(variable), "{command} {variable}: {error}");
    }
}

#[test]
fn a_command_that_is_unknown_is_named_with_those_that_are_known() {
    let error = Node::new().request("RESTART", "c1").run().error();
    assert!(error["code"] == 4 && error.to_string().contains("CNI_COMMAND is \\\"RESTART\\\""), "{error}");
    assert!(error.to_string().contains("STATUS"), "{error}");
}

#[test]
fn by_hand_the_program_says_what_it_is() {
    let node = Node::new();
    let answer = node.request("", "").without("CNI_COMMAND").run();
    assert!(answer.stderr.contains("CNI plugin flannel") && answer.stderr.contains("1.1.0"), "{answer:?}");
    assert_eq!(answer.ok(), "");
}

#[test]
fn a_plugin_that_is_just_being_installed_is_waited_for() {
    let node = Node::new();
    // As long as it is open for writing, nobody can start it.
    let writer = std::fs::File::options().append(true).open(node.plugins().join("bridge")).expect("open");
    std::thread::scope(|scope| {
        let added = scope.spawn(|| node.request("ADD", "c1").run());
        std::thread::sleep(std::time::Duration::from_millis(300));
        drop(writer);
        added.join().expect("no panic").ok();
    });
}

#[test]
fn a_pipe_in_the_place_of_a_saved_configuration_holds_up_nobody() {
    let node = Node::new();
    std::fs::create_dir_all(node.data_dir()).expect("made");
    let made = std::process::Command::new("mkfifo").arg(node.saved("c1")).status().expect("mkfifo");
    assert!(made.success());
    let error = node.request("DEL", "c1").run().error();
    assert!(error["code"] == 5 && error.to_string().contains("regular file"), "{error}");
    assert!(Path::new(&node.saved("c1")).exists());
}
