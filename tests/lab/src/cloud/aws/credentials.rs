//! Access keys: one of a user, and those that the instances' role has had, each good for a while. All are made up.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

/// Key id and secret of a user that may do everything.
pub const ACCESS_KEY: (&str, &str) = ("AKIAMADEUPFORTESTS", "made-up/secret+of-a-user");
/// The role of all instances.
pub const ROLE: &str = "flannel-node";
/// New ones are given out so long before the end, as the real ones are.
const OVERLAP: Duration = Duration::from_mins(5);

/// A key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) id: String,
    pub(super) secret: String,
    /// None: a user's, which needs none.
    pub(super) token: Option<String>,
    pub(super) begins: SystemTime,
    /// None: never.
    pub(super) ends: Option<SystemTime>,
    /// Who it is.
    pub(super) arn: String,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Credentials {
    keys: Vec<Key>,
    account: String,
    /// How long new ones are good.
    pub(super) lifetime: Duration,
    /// Status and code of the error about one that is over.
    pub(super) over: (u16, &'static str),
}

impl Credentials {
    pub(super) fn new(account: &str) -> Self {
        let user = Key {
            id: ACCESS_KEY.0.to_owned(),
            secret: ACCESS_KEY.1.to_owned(),
            token: None,
            begins: SystemTime::now(),
            ends: None,
            arn: format!("arn:aws:iam::{account}:user/operator"),
        };
        let lifetime = Duration::from_hours(6);
        Self { keys: vec![user], account: account.to_owned(), lifetime, over: (400, "RequestExpired") }
    }

    /// A key by its id.
    pub(super) fn find(&self, id: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// What an instance's role has now.
    pub(super) fn of_instance(&mut self, instance: &str) -> Key {
        let arn = format!("arn:aws:sts::{}:assumed-role/{ROLE}/{instance}", self.account);
        let now = SystemTime::now();
        let soon = now + OVERLAP.min(self.lifetime / 2);
        let last = self.keys.iter().rfind(|key| key.arn == arn);
        if let Some(key) = last.filter(|key| key.ends.is_some_and(|end| end > soon)) {
            return key.clone();
        }
        let number = self.keys.len();
        let key = Key {
            id: format!("ASIAMADEUP{number:010}"),
            secret: format!("made-up/secret+{number}-of-a-role"),
            // Tokens of the real cloud have such characters, which have to be encoded nowhere.
            token: Some(format!("made-up/token+{number}-of-a-role==")),
            begins: now,
            ends: Some(now + self.lifetime),
            arn,
        };
        self.keys.push(key.clone());
        key
    }

    /// All that the role has had so far are over at once.
    pub(super) fn expire(&mut self) {
        let now = SystemTime::now();
        for key in self.keys.iter_mut().filter(|key| key.ends.is_some_and(|end| end > now)) {
            key.ends = Some(now);
        }
    }

    /// How many the role has had.
    pub(super) fn issued(&self) -> usize {
        self.keys.len() - 1
    }

    /// All that nobody should see.
    pub(super) fn secrets(&self) -> Vec<String> {
        self.keys.iter().flat_map(|key| [Some(key.secret.clone()), key.token.clone()]).flatten().collect()
    }
}

/// `2026-11-25T16:53:00Z`
pub(super) fn written(moment: SystemTime) -> String {
    let moment = OffsetDateTime::from(moment);
    let (year, month, day) = moment.to_calendar_date();
    let (hour, minute, second) = moment.to_hms();
    format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", u8::from(month))
}
