//! How a command ends: the exit status, and a failure as what, why and a hint.

use std::process::ExitCode;

/// Exit status of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked.
    Ok,
    /// It failed.
    Failed,
    /// The command line is wrong.
    Usage,
    /// Something was checked and refused.
    Refused,
    /// Everything holds, under a simulated root.
    Simulated,
    /// Something that is needed for a verdict is missing.
    Incomplete,
}

impl Exit {
    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Simulated => 4,
            Self::Incomplete => 5,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub struct CommandError {
    /// Exit status.
    pub exit: Exit,
    /// What failed and, in its chain of causes, why.
    pub error: anyhow::Error,
    /// What to do about it.
    pub hint: Option<String>,
}

impl CommandError {
    /// A failure with that exit status.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into(), hint: None }
    }

    /// A failure of status 1 with a hint.
    pub fn hinted(error: impl Into<anyhow::Error>, hint: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, error: error.into(), hint: Some(hint.into()) }
    }

    /// A wrong command line.
    pub fn usage(what: impl std::fmt::Display, hint: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, error: anyhow::anyhow!("{what}"), hint: Some(hint.into()) }
    }

    /// The lines for the screen: what, why, hint.
    pub fn lines(&self) -> String {
        let mut causes = self.error.chain().map(ToString::to_string);
        let mut lines = format!("error: {}\n", causes.next().unwrap_or_default());
        for cause in causes {
            lines.push_str(&format!("  because: {cause}\n"));
        }
        if let Some(hint) = &self.hint {
            lines.push_str(&format!("hint: {hint}\n"));
        }
        lines
    }
}

impl From<anyhow::Error> for CommandError {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Failed, error)
    }
}

impl From<std::io::Error> for CommandError {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Failed, error)
    }
}

impl From<serde_json::Error> for CommandError {
    fn from(error: serde_json::Error) -> Self {
        Self::new(Exit::Failed, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_why_and_what_to_do() {
        let error =
            CommandError::hinted(anyhow::anyhow!("no route").context("could not reach the gateway"), "run `tacit up`");
        assert_eq!(error.lines(), "error: could not reach the gateway\n  because: no route\nhint: run `tacit up`\n");
    }

    #[test]
    fn exit_statuses_are_those_of_the_interface() {
        let all = [Exit::Ok, Exit::Failed, Exit::Usage, Exit::Refused, Exit::Simulated, Exit::Incomplete];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 4, 5]);
    }
}
