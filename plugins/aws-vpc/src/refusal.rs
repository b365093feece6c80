//! What EC2 says when it does not do what it is asked for.

use std::fmt;

/// Characters of EC2's text that an operator gets to read.
const LONGEST: usize = 300;

/// A call that EC2 has refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    action: &'static str,
    code: String,
    message: String,
}

impl Refusal {
    /// With EC2's code and message.
    pub fn new(action: &'static str, code: &str, message: &str) -> Self {
        // What follows is a long secret text that is another one each time.
        let message = message.split("Encoded authorization failure message").next().unwrap_or_default();
        let shown = |text: &str| -> String {
            let plain = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
            plain.take(LONGEST).collect::<String>().trim().trim_end_matches('.').to_owned()
        };
        Self { action, code: shown(code), message: shown(message) }
    }

    /// The table was not as it had been read: somebody was faster, or what was read is old.
    pub fn is_race(&self) -> bool {
        match self.code.as_str() {
            "RouteAlreadyExists" | "InvalidRoute.NotFound" => true,
            // How ReplaceRoute says it: "There is no route defined for '…' in the route table".
            "InvalidParameterValue" => self.message.contains("no route defined"),
            _ => false,
        }
    }

    /// The table has no room.
    pub fn is_full(&self) -> bool {
        self.code == "RouteLimitExceeded"
    }

    /// There is no such table (`InvalidRouteTableID.NotFound`), or there cannot be (`InvalidRouteTableId.Malformed`).
    pub fn is_wrong_table(&self) -> bool {
        self.code.to_ascii_lowercase().starts_with("invalidroutetableid.")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { action, code, message } = self;
        write!(f, "{action}: EC2 answers {code}: {message}")?;
        if code == "UnauthorizedOperation" {
            write!(
                f,
                ": allow ec2:{action} to this machine's role or user; `flanneld plugin inspect` prints the whole policy"
            )?;
        }
        Ok(())
    }
}
