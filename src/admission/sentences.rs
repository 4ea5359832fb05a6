//! What users read when a limit is reached.

use crate::model::{Counted, Need, OfFlavor, Quota};

/// The most servers that are named, and characters of a name.
const NAMED: usize = 10;
const LONGEST: usize = 80;

/// A server of the user who is refused.
#[derive(Clone, Copy, Debug)]
pub struct OwnServer<'a> {
    /// Its name; empty for the default server.
    pub name: &'a str,
    /// Its flavor.
    pub flavor: Option<&'a str>,
}

/// What a user reads whose start exceeds these quotas, each with what is used of it now: which limit, by what, what is free.
/// `own` are the user's servers on the hub, `flavor` is the name of the flavor for people. Other people's servers are never
/// named.
#[must_use]
pub fn refusal(exceeded: &[(Quota, i64)], need: &Need, own: &[OwnServer<'_>], flavor: Option<&str>) -> String {
    let mut sentences: Vec<_> = exceeded.iter().map(|(quota, used)| reached(quota, *used, need, own, flavor)).collect();
    let too_large = exceeded.iter().any(|(quota, _)| quota.counted.of(need) > quota.limit);
    let personal = exceeded.iter().any(|(quota, _)| quota.scope.is_personal());
    sentences.push(
        match (too_large, personal) {
            (true, _) => "Please choose another flavor or ask the administrators of the system.",
            (false, true) => "Please stop one of your servers and try again.",
            (false, false) => "Please try again later or choose another flavor.",
        }
        .to_owned(),
    );
    sentences.join(" ")
}

/// The line of progress of a start that waits for its turn: `position` is 1 for the next one.
#[must_use]
pub fn waiting(position: u64, exceeded: &[(Quota, i64)]) -> String {
    let turn = match position {
        0 | 1 => "Your server is the next to start".to_owned(),
        _ => format!("Your server waits for a free place, as number {position} in the queue"),
    };
    match exceeded.first() {
        Some((quota, used)) => {
            let used = quota.counted.in_words(*used);
            format!("{turn}: {used} are in use, at most {} may be.", quota.counted.in_words(quota.limit))
        }
        None => format!("{turn}."),
    }
}

/// One limit: "You may have 2 servers with the flavor "Small" at once. In use: 2 servers ("a", the default server); free: none."
fn reached(quota: &Quota, used: i64, need: &Need, own: &[OwnServer<'_>], flavor: Option<&str>) -> String {
    let Quota { scope, counted, limit, .. } = quota;
    let whose = match (&scope.user_id, &scope.group, &scope.hub) {
        (Some(_), _, _) => "You may have".to_owned(),
        (None, Some(group), _) => format!("Your group {} may have", quoted(group)),
        (None, None, Some(_)) => "All users of this JupyterHub together may have".to_owned(),
        (None, None, None) => "All users of this system together may have".to_owned(),
    };
    let of_flavor = match (&scope.flavor, flavor) {
        (None, _) => String::new(),
        (Some(OfFlavor::Named(name)), shown) => format!(" with the flavor {}", quoted(shown.unwrap_or(name))),
        (Some(OfFlavor::Undefined { .. }), _) => " without one of this system's flavors".to_owned(),
    };
    let mut sentence = format!("{whose} at most {}{of_flavor} at once.", counted.in_words(*limit));
    let names = if scope.is_personal() { named(own, scope.flavor.as_ref()) } else { String::new() };
    let free = (limit - used).max(0);
    let free = if free == 0 { "nothing".to_owned() } else { counted.in_words(free) };
    sentence.push_str(&format!(" In use: {}{names}; free: {free}", counted.in_words(used)));
    match counted {
        Counted::Servers => sentence.push('.'),
        _ => sentence.push_str(&format!("; this server takes up {}.", counted.in_words(counted.of(need)))),
    }
    sentence
}

/// The user's servers, ` ("a", the default server)`; only those of the flavor where the limit is one of a flavor.
fn named(own: &[OwnServer<'_>], flavor: Option<&OfFlavor>) -> String {
    let counted = |server: &&OwnServer<'_>| flavor.is_none_or(|flavor| flavor.counts(server.flavor));
    let mut names: Vec<_> = own
        .iter()
        .filter(counted)
        .map(|server| if server.name.is_empty() { "the default server".to_owned() } else { quoted(server.name) })
        .collect();
    if names.len() > NAMED {
        let more = names.split_off(NAMED).len();
        names.push(format!("and {more} more"));
    }
    if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) }
}

fn quoted(name: &str) -> String {
    let short: String = name.chars().take(LONGEST).collect();
    let dots = if short.len() < name.len() { "…" } else { "" };
    format!("{:?}", format!("{short}{dots}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Scope;

    fn quota(scope: Scope, counted: Counted, limit: i64) -> Quota {
        Quota { scope, counted, limit, source: "limits.x.y".into() }
    }

    fn hub() -> Scope {
        Scope { hub: Some("hub1".into()), ..Scope::default() }
    }

    fn user() -> Scope {
        Scope { user_id: Some(7), ..hub() }
    }

    #[test]
    fn a_user_reads_which_servers_are_in_the_way() {
        let own = [
            OwnServer { name: "", flavor: Some("small") },
            OwnServer { name: "lab\n", flavor: Some("small") },
            OwnServer { name: "other", flavor: None },
        ];
        let exceeded = [(quota(Scope { flavor: Some("small".into()), ..user() }, Counted::Servers, 2), 2)];
        let sentence = refusal(&exceeded, &Need::default(), &own, Some("Small one"));
        assert_eq!(
            sentence,
            "You may have at most 2 servers with the flavor \"Small one\" at once. In use: 2 servers (the default server, \
             \"lab\\n\"); free: nothing. Please stop one of your servers and try again."
        );
    }

    #[test]
    fn sums_say_what_is_free_and_what_is_needed() {
        let need = Need { memory_bytes: 4 << 30, ..Need::default() };
        let group = Scope { group: Some("students".into()), ..hub() };
        let own = [OwnServer { name: "mine", flavor: None }];
        let sentence = refusal(&[(quota(group, Counted::Memory, 10 << 30), 7 << 30)], &need, &own, None);
        assert_eq!(
            sentence,
            "Your group \"students\" may have at most 10 GiB at once. In use: 7 GiB; free: 3 GiB; this server takes up 4 GiB. \
             Please try again later or choose another flavor."
        );
        let sentence = refusal(&[(quota(hub(), Counted::Memory, 1 << 30), 0)], &need, &own, None);
        assert!(sentence.ends_with("choose another flavor or ask the administrators of the system."), "{sentence}");
    }

    #[test]
    fn undefined_flavors_are_counted_together() {
        let flavor = Some(OfFlavor::Undefined { defined: ["small".into()].into() });
        let sentence =
            refusal(&[(quota(Scope { flavor, ..hub() }, Counted::Servers, 3), 3)], &Need::default(), &[], None);
        assert!(sentence.contains("at most 3 servers without one of this system's flavors at once."), "{sentence}");
    }

    #[test]
    fn many_servers_and_long_names_stay_short() {
        let name = "x".repeat(5000);
        let own = [OwnServer { name: &name, flavor: None }; 50];
        let sentence = refusal(&[(quota(user(), Counted::Servers, 50), 50)], &Need::default(), &own, None);
        assert!(sentence.len() < 1500 && sentence.contains("and 40 more"), "{sentence}");
    }

    #[test]
    fn who_waits_reads_the_position() {
        let exceeded = [(quota(Scope { flavor: Some("gpu".into()), ..hub() }, Counted::Servers, 3), 3)];
        assert_eq!(
            waiting(2, &exceeded),
            "Your server waits for a free place, as number 2 in the queue: 3 servers are in use, at most 3 servers may be."
        );
        assert_eq!(waiting(1, &[]), "Your server is the next to start.");
    }
}
