use std::time::Duration;

use flannel_model::ledger::PeerId;

use super::*;

fn target(last: u8) -> ProbeTarget {
    let over = Some("eth0".into());
    let key = ProbeKey { peer: PeerId(last.into()), address: [192, 168, 0, last].into(), over, size: 1500 };
    ProbeTarget { key, source: None, interval: Duration::from_secs(1), lost_after: 1, back_after: 1 }
}

#[test]
fn without_sockets_nothing_can_be_probed_and_that_is_said() {
    let hub = ProbeHub::default();
    assert_eq!(hub.unavailable(true).as_deref(), Some("peers cannot be probed here"));
    assert!(hub.status().is_none() && hub.figures().is_none());
    let reports = hub.reports(&mut [target(1).key].iter());
    assert_eq!(reports, [None]);
}

#[test]
fn an_owner_hears_of_its_own_targets_and_takes_them_along() {
    let hub = ProbeHub::default();
    let (told, heard) = std::sync::mpsc::channel();
    let other = told.clone();
    let owner = hub.owner(move || told.send("one").expect("heard"));
    let second = hub.owner(move || other.send("other").expect("heard"));
    owner.declare(vec![target(1)]);
    second.declare(vec![target(2)]);
    // There is no socket: each request is lost at once.
    hub.0.proceed();
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["one"]);
    let status = hub.status().expect("something is probed");
    assert_eq!((status.untested, status.answered, status.lost, status.interval_ms), (1, 0, 1, 1000));
    assert_eq!(status.lost_targets, ["192.168.0.1 over eth0, 1500 bytes"]);
    drop(owner);
    let status = hub.status().expect("something is probed");
    assert_eq!((status.untested, status.lost), (1, 0));
    drop(second);
    assert!(hub.status().is_none());
    let figures = hub.figures().expect("something was probed");
    assert_eq!((figures.targets.map(|(_, count)| count), figures.requests, figures.answers), ([0; 3], 1, 0));
    assert!(hub.0.listeners.lock().expect("unlocked").is_empty());
}

#[test]
fn answers_are_known_by_all_that_was_sent_and_nothing_less() {
    let hub = ProbeHub::default();
    let owner = hub.owner(|| {});
    owner.declare(vec![target(1)]);
    let request = lock(&hub.0.table).next(Instant::now()).expect("a request");
    let echo = Echo { id: ID, sequence: low(request.turn.sequence), token: request.turn.token() };
    let answered = || hub.status().expect("something is probed").answered;
    hub.0.take(Echo { id: ID - 1, ..echo }, request.to);
    hub.0.take(Echo { sequence: echo.sequence + 1, ..echo }, request.to);
    hub.0.take(Echo { token: echo.token + 1, ..echo }, request.to);
    hub.0.take(echo, [192, 168, 0, 2].into());
    assert_eq!(answered(), 0);
    hub.0.take(echo, request.to);
    assert_eq!(answered(), 1);
}
