//! Commands that do what they should, and others.

use super::*;

fn command(text: &str) -> Command {
    Command {
        name: "TestCommand".to_owned(),
        text: text.to_owned(),
        environment: Vec::new(),
        input: "\n".to_owned(),
    }
}

async fn run_for(command: &Command, seconds: u64) -> Result<CommandOutcome, CommandFailure> {
    run(command, Instant::now() + Duration::from_secs(seconds)).await
}

async fn ran(command: &Command) -> CommandOutcome {
    run_for(command, 60).await.expect("an outcome")
}

fn is_there(pid: &str) -> bool {
    // One that is killed and that nobody has waited for is there no more.
    let status = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    status.is_ok_and(|status| !status.contains(") Z "))
}

#[tokio::test]
async fn what_it_writes_comes_in_order_and_so_does_how_it_ends() {
    let outcome = ran(&command("echo one; echo two >&2; echo three; exit 7")).await;
    let wanted = CommandOutcome { status: 7, output: "one\ntwo\nthree\n".to_owned(), truncated: false };
    assert_eq!(outcome, wanted);
    assert_eq!(ran(&command("kill -TERM $$")).await.status, 143);
    assert_eq!(ran(&command("printf 'a\\377b'")).await.output, "a\u{fffd}b");
}

#[tokio::test]
async fn values_are_in_the_environment_and_in_the_input_and_never_part_of_the_text() {
    let hostile = "$(touch /tmp/flanneld-hostile); `id` \"'\\\n; exit 9";
    let environment = vec![("SUBNET".to_owned(), hostile.to_owned())];
    let command = Command {
        environment,
        input: format!("{hostile}\n"),
        ..command("printf '%s|' \"$SUBNET\" $UNSET; cat; pwd")
    };
    let outcome = ran(&command).await;
    assert_eq!(outcome.output, format!("{hostile}|{hostile}\n/\n"));
    assert!(!std::path::Path::new("/tmp/flanneld-hostile").exists());
}

#[tokio::test]
async fn input_that_nobody_reads_and_input_that_is_long_hold_nothing_up() {
    let input = "x".repeat(128 << 10);
    let unread = Command { input: input.clone(), ..command("echo done") };
    assert_eq!(ran(&unread).await.output, "done\n");
    let counted = Command { input, ..command("wc -c") };
    assert_eq!(ran(&counted).await.output.trim(), "131072");
}

#[tokio::test]
async fn of_a_flood_the_beginning_is_kept_and_the_command_goes_on_to_its_end() {
    let outcome = ran(&command("head -c 10000000 /dev/zero | tr '\\0' x; exit 3")).await;
    assert_eq!((outcome.output.len(), outcome.truncated, outcome.status), (OUTPUT, true, 3));
    let outcome = ran(&command("head -c 65536 /dev/zero")).await;
    assert_eq!((outcome.output.len(), outcome.truncated), (OUTPUT, false));
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_all_that_it_has_started() {
    let hangs = command("echo begun; sleep 1000 & echo $!; yes > /dev/null & echo $!; wait");
    let error = run_for(&hangs, 2).await.expect_err("killed").to_string();
    assert!(error.starts_with("TestCommand has not ended within 2 s"), "{error}");
    let said = error.rsplit("begun ").next().expect("what it said").to_owned();
    let started: Vec<&str> = said.split(' ').collect();
    assert_eq!(started.len(), 2, "{error}");
    for pid in started {
        for _ in 0..500 {
            if !is_there(pid) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(!is_there(pid), "{error}");
    }
}

#[tokio::test]
async fn what_stays_in_the_background_is_not_waited_for_and_goes_on() {
    let begun = Instant::now();
    let outcome = ran(&command("sleep 50 & echo $!")).await;
    assert!(begun.elapsed() < Duration::from_secs(40));
    let pid = outcome.output.trim().to_owned();
    assert!(is_there(&pid));
    let pid = Pid::from_raw(pid.parse().expect("a number")).expect("a process");
    rustix::process::kill_process(pid, Signal::KILL).expect("killed");
    // One that writes and writes.
    let outcome = ran(&command("yes & echo $!; exec sleep 0.1")).await;
    assert_eq!(outcome.status, 0);
}

#[tokio::test]
async fn a_command_whose_asker_is_gone_is_killed() {
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("pid");
    let text = format!("echo $$ > {file}; sleep 1000", file = file.display());
    let asked = command(&text);
    let task = tokio::spawn(async move { run_for(&asked, 60).await });
    let pid = loop {
        match std::fs::read_to_string(&file) {
            Ok(pid) if pid.ends_with('\n') => break pid,
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    task.abort();
    assert!(task.await.is_err());
    for _ in 0..500 {
        if !is_there(&pid) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it is still there");
}
