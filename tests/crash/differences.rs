//! Which calls of an operation the same operation makes in another configuration as well.

use nix::libc::{self, c_long};

use crate::registers::Call;

/// What makes two calls the same: the call, what it is told to do, and the descriptor.
type Identity = (c_long, i32, Option<i32>);

fn identity(call: &Call) -> Identity {
    let by_path =
        [libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_unlink, libc::SYS_mkdir];
    // A path is an address, which differs from run to run.
    let descriptor = if by_path.contains(&call.number) || call.number == libc::SYS_mmap { 0 } else { call.argument(0) };
    let command = match call.number {
        libc::SYS_fcntl => Some(call.argument(1)),
        libc::SYS_openat => Some(call.argument(2)),
        _ => None,
    };
    (call.number, descriptor, command)
}

/// For each of `calls` whether it is one of its own, or stands beside one: `others` do not have it. The calls that both
/// have are a longest common subsequence.
pub fn differing(calls: &[Call], others: &[Call]) -> Vec<bool> {
    let (calls, others): (Vec<_>, Vec<_>) =
        (calls.iter().map(identity).collect(), others.iter().map(identity).collect());
    // longest[i][j]: the length for calls[i..] and others[j..].
    let mut longest = vec![vec![0; others.len() + 1]; calls.len() + 1];
    for i in (0..calls.len()).rev() {
        for j in (0..others.len()).rev() {
            longest[i][j] = if calls[i] == others[j] {
                longest[i + 1][j + 1] + 1
            } else {
                longest[i + 1][j].max(longest[i][j + 1])
            };
        }
    }
    let mut differing = vec![false; calls.len()];
    let (mut i, mut j) = (0, 0);
    while i < calls.len() {
        if j < others.len() && calls[i] == others[j] {
            (i, j) = (i + 1, j + 1);
        } else if j < others.len() && longest[i][j + 1] >= longest[i + 1][j] {
            // A call is missing between these two.
            for beside in [i.saturating_sub(1), i] {
                differing[beside] = true;
            }
            j += 1;
        } else {
            for beside in [i.saturating_sub(1), i, (i + 1).min(calls.len() - 1)] {
                differing[beside] = true;
            }
            i += 1;
        }
    }
    if let Some(last) = differing.last_mut() {
        *last |= j < others.len();
    }
    differing
}
