//! An ordinary user runs the node in a user namespace: everything it needs must be there.

use netio::{
    DatagramSocket, Error, Namespace, SocketOptions, Tun, UdpGroup, enter_user_namespace, steering::Steering,
};
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};

const NOBODY: u32 = 65_534;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if geteuid().is_root() {
        // As root it would prove nothing.
        setgroups(&[])?;
        setresgid(
            Gid::from_raw(NOBODY),
            Gid::from_raw(NOBODY),
            Gid::from_raw(NOBODY),
        )?;
        setresuid(
            Uid::from_raw(NOBODY),
            Uid::from_raw(NOBODY),
            Uid::from_raw(NOBODY),
        )?;
        // What changes user is not dumpable, and then root owns its /proc files; a program started by the user would not have this.
        nix::sys::prctl::set_dumpable(true)?;
    }
    assert!(
        Namespace::create().is_err(),
        "an ordinary user has no right to a namespace yet"
    );
    match enter_user_namespace() {
        Ok(()) => {}
        Err(error @ Error::Unavailable { .. }) => {
            assert!(
                error.to_string().contains("user namespace") && error.to_string().contains("sysctl"),
                "{error}"
            );
            println!("skipped: {error}");
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    }
    assert!(geteuid().is_root());
    let steering = Steering::new(1, |_| netio::steering::SlotOwners::default(), [0; 16])?;
    let group = UdpGroup::open(
        "127.0.0.1:500".parse()?,
        1,
        SocketOptions::default(),
        &steering.program_500(),
    )?;
    assert_eq!(group.address().port(), 500);
    DatagramSocket::bind_esp("127.0.0.1:0".parse()?, SocketOptions::default())?;
    let context = Namespace::create()?;
    let tun = context.run(|| Tun::create("swn-user", 2, 1400))??;
    assert_eq!(tun.queues.len(), 2);
    println!("test an_ordinary_user_gets_sockets_tun_and_namespaces ... ok");
    Ok(())
}
