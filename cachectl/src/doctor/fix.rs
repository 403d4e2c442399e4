//! `doctor --fix`: what the library repairs itself at an open and at a clean, and nothing else.

use super::finding::Findings;
use super::kind::{Kind, Remedy};

/// What is to be done about findings.
#[derive(Debug, PartialEq, Eq)]
pub enum Plan {
    /// No finding has a remedy.
    Nothing,
    /// The cache must not be opened, because of this kind of finding.
    Refused(&'static Kind),
    /// It is opened, and cleaned if so.
    Open { clean: bool },
}

/// What is to be done.
pub fn plan(findings: &Findings) -> Plan {
    if let Some(finding) = findings.iter().find(|finding| finding.kind.remedy == Remedy::Refuse) {
        return Plan::Refused(finding.kind);
    }
    let has = |remedy| findings.iter().any(|finding| finding.kind.remedy == remedy);
    match (has(Remedy::Open), has(Remedy::Clean)) {
        (false, false) => Plan::Nothing,
        (_, clean) => Plan::Open { clean },
    }
}

#[cfg(test)]
mod tests {
    use super::super::kind;
    use super::*;

    #[test]
    fn a_finding_that_forbids_an_open_prevails() {
        let mut findings = Findings::default();
        assert_eq!(plan(&findings), Plan::Nothing);
        findings.add(&kind::FULL, "");
        assert_eq!(plan(&findings), Plan::Nothing);
        findings.add(&kind::ORPHANS, "");
        assert_eq!(plan(&findings), Plan::Open { clean: false });
        findings.add(&kind::DEAD_WRITERS, "");
        assert_eq!(plan(&findings), Plan::Open { clean: true });
        findings.add(&kind::FOREIGN_DATABASE, "");
        assert_eq!(plan(&findings), Plan::Refused(&kind::FOREIGN_DATABASE));
    }
}
