//! A small internet in network namespaces of this machine: hosts, routers with NAT between them and the rest, and programs
//! that run in them. No packet leaves it, and it goes when it is dropped.
//!
//! ```text
//!    host a -- router a --+                       +-- router b -- host b
//!              (NAT)      +-- a switch, public ---+   (NAT)
//!                         +-- relay 1, relay 2 ---+
//! ```
//!
//! It needs root, `ip` and `nft`, which `tests/run` looks for.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Public addresses: those of documentation (RFC 5737, RFC 3849), which lead nowhere else.
const PUBLIC_V4: [u8; 3] = [203, 0, 113];
const PUBLIC_V6: [u16; 2] = [0x2001, 0x0db8];

/// What a router lets in: what was asked for from inside, and whoever is inside.
const HOME_OR_ASKED: &str = "ct state established,related accept\niifname { home, lo } accept";

/// How a router maps its hosts' ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// A host's port keeps its number, whomever it talks to.
    Kept,
    /// Every connection has a port of its own: what one peer sees of a host is of no use to another.
    Random,
}

/// The switch, and everything that hangs on it.
#[derive(Debug)]
pub struct Internet {
    prefix: String,
    namespaces: Vec<String>,
    public: u8,
    homes: u8,
}

/// A machine.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its namespace.
    pub namespace: String,
    /// Its address.
    pub ip: IpAddr,
}

fn run(words: &str) {
    let mut command = Command::new("sh");
    let done = command.args(["-c", words]).stdin(Stdio::null()).output();
    let done = done.expect("a shell runs");
    assert!(
        done.status.success(),
        "`{words}`: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

impl Default for Internet {
    fn default() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("inf{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut internet = Self {
            prefix,
            namespaces: Vec::new(),
            public: 0,
            homes: 0,
        };
        let switch = internet.namespace("sw");
        run(&format!(
            "ip -n {switch} link add br0 type bridge && ip -n {switch} link set br0 up"
        ));
        internet
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        for name in &self.namespaces {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

impl Internet {
    fn namespace(&mut self, name: &str) -> String {
        let name = format!("{}-{name}", self.prefix);
        run(&format!("ip netns add {name} && ip -n {name} link set lo up"));
        self.namespaces.push(name.clone());
        name
    }

    fn switch(&self) -> &str {
        &self.namespaces[0]
    }

    /// Plugs `namespace` into the switch; its interface is called `net`.
    fn plug(&self, namespace: &str, port: &str) {
        let switch = self.switch();
        run(&format!(
            "ip -n {switch} link add {port} type veth peer name net netns {namespace} \
             && ip -n {switch} link set {port} master br0 up && ip -n {namespace} link set net up"
        ));
    }

    fn next_public(&mut self) -> u8 {
        self.public += 1;
        self.public
    }

    /// A machine with a public address.
    pub fn public(&mut self) -> Host {
        let number = self.next_public();
        let [a, b, c] = PUBLIC_V4;
        self.host(number, Ipv4Addr::new(a, b, c, number).into(), 24)
    }

    /// A machine with an address of IPv6 and no other.
    pub fn public_v6(&mut self) -> Host {
        let number = self.next_public();
        let [a, b] = PUBLIC_V6;
        self.host(number, Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, number.into()).into(), 64)
    }

    fn host(&mut self, number: u8, ip: IpAddr, length: u8) -> Host {
        let namespace = self.namespace(&format!("p{number}"));
        self.plug(&namespace, &format!("p{number}"));
        let nodad = if ip.is_ipv6() { "nodad" } else { "" };
        run(&format!("ip -n {namespace} address add {ip}/{length} dev net {nodad}"));
        Host { namespace, ip }
    }

    /// A machine behind a router of its own, which lets nobody in whom it has not asked.
    pub fn behind_nat(&mut self, mapping: Mapping) -> Host {
        self.homes += 1;
        let (number, home) = (self.next_public(), self.homes);
        let router = self.namespace(&format!("r{home}"));
        let namespace = self.namespace(&format!("h{home}"));
        self.plug(&router, &format!("r{home}"));
        let [a, b, c] = PUBLIC_V4;
        let random = if mapping == Mapping::Random { "random" } else { "" };
        run(&format!(
            "ip -n {router} address add {a}.{b}.{c}.{number}/24 dev net \
             && ip -n {router} link add home type veth peer name net netns {namespace} \
             && ip -n {router} address add 192.168.{home}.1/24 dev home && ip -n {router} link set home up \
             && ip -n {namespace} address add 192.168.{home}.2/24 dev net && ip -n {namespace} link set net up \
             && ip -n {namespace} route add default via 192.168.{home}.1 \
             && ip netns exec {router} sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'"
        ));
        let chains = [
            (
                "nat",
                "outgoing",
                "nat hook postrouting priority 100",
                format!("oifname net masquerade {random}"),
            ),
            (
                "filter",
                "incoming",
                "filter hook input priority 0; policy drop",
                HOME_OR_ASKED.to_owned(),
            ),
            (
                "filter",
                "through",
                "filter hook forward priority 0; policy drop",
                HOME_OR_ASKED.to_owned(),
            ),
        ];
        let rules: Vec<String> = chains
            .iter()
            .map(|(table, chain, hook, rule)| {
                format!("table ip {table} {{\nchain {chain} {{\ntype {hook}\n{rule}\n}}\n}}")
            })
            .collect();
        let rules = rules.join("\n");
        run(&format!("ip netns exec {router} nft '{rules}'"));
        Host {
            namespace,
            ip: Ipv4Addr::new(192, 168, home, 2).into(),
        }
    }

    /// Parts these machines from all others, or joins them again.
    pub fn part(&self, hosts: &[&Host], parted: bool) {
        let switch = self.switch();
        for host in hosts {
            let port = host.namespace.rsplit('-').next().expect("a name");
            // Ports in another bridge hear each other, and nobody else.
            let bridge = if parted { "br1" } else { "br0" };
            run(&format!(
                "ip -n {switch} link show br1 >/dev/null 2>&1 || ip -n {switch} link add br1 type bridge; \
                 ip -n {switch} link set br1 up; ip -n {switch} link set {port} master {bridge}"
            ));
        }
    }
}

impl Host {
    /// A program that will run here.
    #[must_use]
    pub fn command(&self, program: &std::path::Path) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program);
        command
    }

    /// Runs something that makes connections from here, on a thread of its own.
    ///
    /// # Panics
    /// Where the thread cannot move into the namespace.
    pub async fn from_here<T, F>(&self, task: impl FnOnce() -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        let path = format!("/var/run/netns/{}", self.namespace);
        let (done, result) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let namespace = File::open(path).expect("the namespace is there");
            let network = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(namespace.as_fd(), network).expect("root may move");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let value = runtime.expect("a runtime").block_on(task());
            let _gone = done.send(value);
        });
        result.await.expect("the thread ends well")
    }
}
