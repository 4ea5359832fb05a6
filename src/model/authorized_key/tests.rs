use chrono::FixedOffset;
use proptest::prelude::*;
use rstest::rstest;
use russh::keys::ssh_key::public::RsaPublicKey;
use russh::keys::ssh_key::{EcdsaCurve, Mpint};
use russh::keys::{Algorithm, PrivateKey};

use super::*;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGe7bW2xh1hrJZcJkEHcnt6fpbXxFKLxeAX2HfvMTqJt";

fn with(options: &str) -> Result<AuthorizedKey, String> {
    AuthorizedKey::parse(&format!("{options} {KEY} a hub"))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ecdsa(curve: EcdsaCurve) -> String {
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ecdsa { curve }).unwrap();
    key.public_key().to_openssh().unwrap()
}

fn rsa(bits: usize) -> String {
    let mut modulus = vec![0xa5; bits.div_ceil(8)];
    modulus[0] = 0xff >> (modulus.len() * 8 - bits);
    let number = |bytes: &[u8]| Mpint::from_positive_bytes(bytes);
    let key = RsaPublicKey::new(number(&[1, 0, 1]), number(&modulus)).unwrap();
    PublicKey::new(KeyData::Rsa(key), "").to_openssh().unwrap()
}

#[rstest]
#[case(KEY.to_owned(), "ssh-ed25519", 256)]
#[case(ecdsa(EcdsaCurve::NistP256), "ecdsa-sha2-nistp256", 256)]
#[case(ecdsa(EcdsaCurve::NistP384), "ecdsa-sha2-nistp384", 384)]
#[case(ecdsa(EcdsaCurve::NistP521), "ecdsa-sha2-nistp521", 521)]
#[case(rsa(2048), "ssh-rsa", 2048)]
#[case(rsa(8192), "ssh-rsa", 8192)]
fn keys_of_these_types_are_read(#[case] line: String, #[case] kind: &str, #[case] bits: usize) {
    let key = AuthorizedKey::parse(&format!("  restrict,port-forwarding\t {line} \t the hub's \"key\"  ")).unwrap();
    assert_eq!((key.kind().as_str(), key.bits()), (kind, bits));
    assert_eq!((key.options(), key.comment()), ("restrict,port-forwarding", "the hub's \"key\""));
    let plain = AuthorizedKey::parse(&line).unwrap();
    assert_eq!((plain.options(), plain.comment(), plain.fingerprint()), ("", "", key.fingerprint()));
    assert_eq!(AuthorizedKey::parse(key.line()).unwrap(), key);
}

#[test]
fn a_fingerprint_is_the_one_of_ssh_keygen() {
    let key = AuthorizedKey::parse(KEY).unwrap();
    assert_eq!(key.fingerprint(), "SHA256:1EDyErLbybUvOb4bzv/ij8fEX65xklXseSytDPEAk+w");
}

#[rstest]
#[case("", "has to be an SSH public key")]
#[case("# a comment", "has to be an SSH public key")]
#[case("ssh-dss AAAAB3NzaC1kc3MAAACB", "is a DSA key")]
#[case("sk-ssh-ed25519@openssh.com AAAA", "somebody has to touch")]
#[case("ssh-ed25519-cert-v01@openssh.com AAAA", "is a certificate")]
#[case("rsa-sha2-512 AAAA", "begins with ssh-rsa")]
#[case("ssh-ed448 AAAA", "is of an unknown type")]
#[case("ssh-ed25519", "is cut off or damaged")]
#[case("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGe7bW2xh1hr", "is cut off or damaged")]
#[case("ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIGe7bW2xh1hrJZcJkEHcnt6fpbXxFKLxeAX2HfvMTqJt", "is cut off or damaged")]
#[case("restrict", "has to be an SSH public key")]
#[case("ssh-ed25519 AAAA\u{1b}[2J", "has to be one line without control characters")]
#[case("ssh-ed25519 AAAA\nssh-ed25519 AAAA", "has to be one line without control characters")]
#[case("---- BEGIN SSH2 PUBLIC KEY ----", "ssh-keygen -i")]
#[case("-----BEGIN PUBLIC KEY-----", "ssh-keygen -i")]
fn what_is_no_usable_key_is_refused_with_a_reason(#[case] line: &str, #[case] expected: &str) {
    let mistake = AuthorizedKey::parse(line).unwrap_err();
    assert!(mistake.contains(expected), "{mistake}");
}

#[test]
fn an_rsa_key_has_to_be_long_enough() {
    for bits in [1024, 2047, 8193] {
        let mistake = AuthorizedKey::parse(&rsa(bits)).unwrap_err();
        assert!(mistake.contains(&format!("of {bits} bits")) && mistake.contains("at least 2048"), "{mistake}");
    }
}

#[test]
fn a_private_key_is_noticed_and_never_repeated() {
    let pair = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
    let text = pair.to_openssh(russh::keys::ssh_key::LineEnding::LF).unwrap();
    let body = text.lines().nth(1).unwrap();
    for pasted in [text.as_str(), body, &format!("ssh-ed25519 {body}")] {
        let mistake = AuthorizedKey::parse(pasted).unwrap_err();
        assert!(mistake.contains("is a private key") && !mistake.contains(body), "{mistake}");
        assert_eq!(AuthorizedKey::parse_file(pasted).unwrap_err(), mistake);
    }
    for line in text.lines().skip(2).take(3).chain(["MIIEvQIBADANBgkqhkiG9w0", "abcdefghijklmnopqrstuvwxyz"]) {
        let mistake = AuthorizedKey::parse(line).unwrap_err();
        assert!(!mistake.contains(&line[..6]), "{mistake}");
    }
}

#[rstest]
#[case("command", "command: its value has to follow after `=` in double quotes")]
#[case("Environment=\"A=b\"", "environment, which cannot be used here: no command is ever run")]
#[case("tunnel=\"0\"", "tunnel, which cannot")]
#[case("permitlisten=\"1\"", "permitlisten, which cannot")]
#[case("cert-authority", "cert-authority, which cannot be used here: certificates")]
#[case("principals=\"a\"", "principals, which cannot")]
#[case("no-touch-required", "security keys")]
#[case("verify-required", "security keys")]
#[case("permit-open=\"a:1\"", "the option permit-open, which is not known")]
#[case("no-restrict", "the option no-restrict, which is not known")]
#[case("from", "has to follow after `=` in double quotes")]
#[case("from=10.0.0.1", "has to follow after `=` in double quotes")]
#[case("from=\"10.0.0.1", "whose closing double quote is missing")]
#[case("from=\"10.0.0.1\"x", "after which there has to be a comma")]
#[case("from=\"10.0.0.1\",from=\"10.0.0.2\"", "can be there once")]
#[case("restrict=\"x\"", "takes no value")]
#[case("restrict,", "a comma after its last option")]
#[case("restrict,,pty", "begins neither")]
#[case("from=\"\"", "has an empty entry")]
#[case("from=\"10.0.0.1,!\"", "has an empty entry")]
#[case("from=\"hub.example.org\"", "names of hosts are not looked up")]
#[case("from=\"*.example.org\"", "names of hosts are not looked up")]
#[case("from=\"10.0.0.0/33\"", "no network like")]
#[case("from=\"10.0.0.1/8\"", "longer than its 8 bits")]
#[case("permitopen=\"none\"", "no-port-forwarding")]
#[case("permitopen=\"h\"", "has to be \"host:port\"")]
#[case("permitopen=\"h:0\"", "has to be \"host:port\"")]
#[case("permitopen=\"h:http\"", "has to be \"host:port\"")]
#[case("permitopen=\"h:65536\"", "has to be \"host:port\"")]
#[case("permitopen=\":1\"", "has to be \"host:port\"")]
#[case("permitopen=\"::1:80\"", "has to be \"host:port\"")]
#[case("permitopen=\"[h]:80\"", "has to be \"host:port\"")]
#[case("expiry-time=\"2030\"", "has to be a time")]
#[case("expiry-time=\"20301301\"", "has to be a time")]
#[case("expiry-time=\"+2030101\"", "has to be a time")]
#[case("expiry-time=\"2030-01-01Z\"", "has to be a time")]
fn an_option_that_cannot_be_honoured_is_refused_by_name(#[case] options: &str, #[case] expected: &str) {
    let mistake = with(options).unwrap_err();
    assert!(mistake.contains(expected), "{mistake}");
}

#[rstest]
#[case("10.0.0.1", &["10.0.0.1", "::ffff:10.0.0.1"], &["10.0.0.2", "::1"])]
#[case("10.0.0.0/8,2001:db8::/32", &["10.255.0.1", "2001:db8:ffff::1"], &["11.0.0.1", "2001:db9::1"])]
#[case("0.0.0.0/0", &["1.2.3.4"], &["::1"])]
#[case("::/0", &["::1"], &["1.2.3.4"])]
#[case("192.0.2.?", &["192.0.2.7"], &["192.0.2.77"])]
#[case("192.0.2.*,FE80:*", &["192.0.2.77", "fe80::1"], &["192.0.3.1"])]
#[case("*,!10.0.0.0/8", &["192.0.2.1", "::1"], &["10.1.2.3"])]
#[case("!10.0.0.9,10.0.0.0/24", &["10.0.0.8"], &["10.0.0.9"])]
#[case("!10.0.0.9", &[], &["10.0.0.8", "10.0.0.9"])]
fn addresses_are_matched_as_by_openssh(#[case] from: &str, #[case] permitted: &[&str], #[case] refused: &[&str]) {
    let key = with(&format!("from=\"{from}\"")).unwrap();
    for text in permitted {
        assert!(key.permits_from(address(text)), "{text}");
    }
    for text in refused {
        assert!(!key.permits_from(address(text)), "{text}");
    }
    assert!(AuthorizedKey::parse(KEY).unwrap().permits_from(address("192.0.2.1")));
}

#[rstest]
#[case("restrict", false)]
#[case("restrict,port-forwarding", true)]
#[case("Restrict,PORT-forwarding", true)]
#[case("port-forwarding,restrict", false)]
#[case("no-port-forwarding", false)]
#[case("restrict,permitopen=\"node1:8888\"", false)]
#[case("permitopen=\"node1:8888\"", true)]
#[case("permitopen=\"other:1\",permitopen=\"node1:*\"", true)]
#[case("permitopen=\"*:8888\"", true)]
#[case("permitopen=\"node1:8889\"", false)]
#[case("permitopen=\"node*:8888\"", false)]
#[case("permitopen=\"NODE1:8888\"", false)]
#[case("no-pty,no-agent-forwarding,no-X11-forwarding,no-user-rc", true)]
#[case("restrict,pty,agent-forwarding,x11-forwarding,user-rc", false)]
fn destinations_are_permitted_as_by_openssh(#[case] options: &str, #[case] permitted: bool) {
    assert_eq!(with(options).unwrap().permits_open("node1", 8888), permitted);
}

#[test]
fn an_ipv6_destination_is_in_brackets() {
    let key = with("permitopen=\"[2001:db8::1]:8888\"").unwrap();
    assert!(key.permits_open("2001:db8::1", 8888) && !key.permits_open("2001:db8::2", 8888));
}

#[rstest]
#[case("20300102Z", "2030-01-02T00:00:00Z")]
#[case("203001021304z", "2030-01-02T13:04:00Z")]
#[case("20300102130405Z", "2030-01-02T13:04:05Z")]
#[case("20300102", "2030-01-01T22:00:00Z")]
#[case("20300102130405", "2030-01-02T11:04:05Z")]
#[case("20010102Z", "2001-01-02T00:00:00Z")]
fn ends_are_local_unless_they_are_utc(#[case] text: &str, #[case] expected: &str) {
    let zone = FixedOffset::east_opt(2 * 3600).unwrap();
    let options = Options::parse(&format!("expiry-time=\"{text}\""), &zone).unwrap();
    assert_eq!(options.expires, Some(expected.parse().unwrap()));
}

#[rstest]
#[case("", None)]
#[case("restrict", Some("its options permit no port forwarding"))]
#[case("expiry-time=\"20300102Z\"", Some("it has expired"))]
#[case("expiry-time=\"20300103Z\"", None)]
#[case("from=\"!192.0.2.1,!10.0.0.0/8\"", Some("its option from only says who is refused, which permits nobody"))]
#[case("from=\"!192.0.2.1,192.0.2.0/24\"", None)]
fn a_key_without_use_says_why(#[case] options: &str, #[case] expected: Option<&str>) {
    assert_eq!(with(options).unwrap().idle("2030-01-02T00:00:00Z".parse().unwrap()), expected);
}

#[test]
fn the_earliest_of_several_ends_holds() {
    let key = with("expiry-time=\"20310101Z\",expiry-time=\"20300101Z\",expiry-time=\"20320101Z\"").unwrap();
    assert_eq!(key.expires(), Some("2030-01-01T00:00:00Z".parse().unwrap()));
}

#[test]
fn quotes_in_values_are_escaped_by_a_backslash() {
    assert_eq!(options::extent(r#"a="x\" y",b c"#).unwrap(), r#"a="x\" y",b"#);
    assert_eq!(options::extent(r#"a="x\\" y" c"#).unwrap(), r#"a="x\\" y""#);
    assert!(options::extent(r#"a="x\" y"#).is_err());
}

#[test]
fn a_file_has_comments_and_empty_lines() {
    let text = format!("# the hub's keys\n\n{KEY} one\n  \t\nrestrict,port-forwarding {KEY} two\r\n");
    let keys = AuthorizedKey::parse_file(&text).unwrap();
    assert_eq!(keys.iter().map(AuthorizedKey::comment).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(
        AuthorizedKey::parse_file(&format!("{text}oops {KEY}")).unwrap_err(),
        "line 6 has the option oops, which is not known"
    );
    assert_eq!(AuthorizedKey::parse_file("\n# nothing\n").unwrap(), []);
}

proptest! {
    #[test]
    fn reading_never_panics(text in "\\PC*", options in "[a-z,=\"!*?./:0-9\\\\ -]{0,60}") {
        let _ = AuthorizedKey::parse(&text);
        if let Ok(key) = with(&options) {
            prop_assert_eq!(AuthorizedKey::parse(key.line()).unwrap(), key.clone());
            let _ = (key.permits_from(address("10.0.0.1")), key.permits_open("h", 1));
        }
    }

    #[test]
    fn a_network_holds_the_addresses_that_begin_like_it(number in any::<u32>(), other in any::<u32>(), bits in 0_u32..=32) {
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        let network = std::net::Ipv4Addr::from_bits(number & mask);
        let key = with(&format!("from=\"{network}/{bits}\"")).unwrap();
        let other = std::net::Ipv4Addr::from_bits(other);
        prop_assert!(key.permits_from(std::net::Ipv4Addr::from_bits(number).into()));
        prop_assert_eq!(key.permits_from(other.into()), other.to_bits() & mask == number & mask);
    }
}
