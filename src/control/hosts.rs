//! What a server is to sessions, and which of several servers a session takes (libpq's `target_session_attrs`).
//!
//! Decides only: who asks a server what it is, and who connects, is elsewhere.

use std::str::FromStr;

/// libpq's `target_session_attrs`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Target {
    /// The first server that can be reached.
    #[default]
    Any,
    /// One in which transactions may write.
    ReadWrite,
    /// One in which they may not.
    ReadOnly,
    /// One that is no standby.
    Primary,
    /// A standby.
    Standby,
    /// A standby where there is one, else any.
    PreferStandby,
}

/// What a server is at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    /// It replays what another server writes.
    pub standby: bool,
    /// Its transactions may not write, unless they ask to.
    pub read_only: bool,
}

impl Target {
    const ALL: [Target; 6] =
        [Target::Any, Target::ReadWrite, Target::ReadOnly, Target::Primary, Target::Standby, Target::PreferStandby];

    /// As libpq writes it.
    pub fn name(self) -> &'static str {
        match self {
            Target::Any => "any",
            Target::ReadWrite => "read-write",
            Target::ReadOnly => "read-only",
            Target::Primary => "primary",
            Target::Standby => "standby",
            Target::PreferStandby => "prefer-standby",
        }
    }

    /// What is looked for, one after the other.
    pub fn passes(self) -> &'static [Target] {
        match self {
            Target::Any => &[Target::Any],
            Target::ReadWrite => &[Target::ReadWrite],
            Target::ReadOnly => &[Target::ReadOnly],
            Target::Primary => &[Target::Primary],
            Target::Standby => &[Target::Standby],
            Target::PreferStandby => &[Target::Standby, Target::Any],
        }
    }

    /// Whether a server must be asked what it is.
    pub fn needs_role(self) -> bool {
        self != Target::Any
    }

    /// Whether a server will do.
    pub fn takes(self, role: Role) -> bool {
        match self {
            Target::Any | Target::PreferStandby => true,
            Target::ReadWrite => !role.read_only && !role.standby,
            Target::ReadOnly => role.read_only || role.standby,
            Target::Primary => !role.standby,
            Target::Standby => role.standby,
        }
    }
}

impl FromStr for Target {
    type Err = String;
    fn from_str(text: &str) -> Result<Target, String> {
        let names = || Target::ALL.map(Target::name).join(", ");
        let found = Target::ALL.into_iter().find(|target| target.name() == text);
        found.ok_or_else(|| format!("target_session_attrs is none of {}", names()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_taken_as_libpq_would() {
        let primary = Role { standby: false, read_only: false };
        let frozen = Role { standby: false, read_only: true };
        let standby = Role { standby: true, read_only: true };
        for (name, taken) in [
            ("any", [true, true, true]),
            ("read-write", [true, false, false]),
            ("read-only", [false, true, true]),
            ("primary", [true, true, false]),
            ("standby", [false, false, true]),
            ("prefer-standby", [true, true, true]),
        ] {
            let target: Target = name.parse().unwrap();
            assert_eq!([primary, frozen, standby].map(|role| target.takes(role)), taken, "{name}");
            assert_eq!(target.name(), name);
        }
        assert!("master".parse::<Target>().is_err());
    }
}
