//! TUN interfaces: where clear packets leave and enter the node, many queues, with offloads.

use std::fs::OpenOptions;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{Error, interface};

mod steering;

use steering::TunSteering;

/// Which offloads the kernel agreed to: what it may put into one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offloads {
    /// TCP and UDP super-packets.
    TcpAndUdp,
    /// TCP super-packets (before Linux 6.2).
    Tcp,
    /// Single packets only.
    None,
}

/// A TUN interface that was just made.
#[derive(Debug)]
pub struct Tun {
    /// Its name, as given.
    pub name: String,
    /// Its queues in order, for [`TunQueue::adopt`].
    pub queues: Vec<OwnedFd>,
    /// What its packets may be.
    pub offloads: Offloads,
    /// The table that chooses among its queues, once it [is steered](Self::steer); without it the kernel remembers from which queue a flow was answered.
    pub steering: Option<OwnedFd>,
}

impl Tun {
    /// The queue length that loses nothing within a time slice.
    pub const QUEUE_LENGTH: u16 = 5000;
    /// The most queues of an interface.
    pub const MAX_QUEUES: usize = 256;

    /// Makes the interface `name` in the calling thread's namespace, with `queues` queues, sets MTU and queue length, and sets it up. It exists as long as
    /// one of its queues is open.
    pub fn create(name: &str, queues: usize, mtu: u16) -> Result<Self, Error> {
        if !(1..=Self::MAX_QUEUES).contains(&queues) {
            return Err(Error::Invalid {
                what: "number of TUN queues",
                expected: "1 to 256",
            });
        }
        let mut offloads = Offloads::None;
        let mut open = Vec::with_capacity(queues);
        for _ in 0..queues {
            let queue = open_queue(name, queues > 1)?;
            offloads = set_offloads(&queue)
                .map_err(|e| Error::system(format!("set up the TUN interface {name}"), e))?;
            open.push(queue);
        }
        interface::set_mtu(name, mtu)?;
        interface::set_queue_length(name, Self::QUEUE_LENGTH)?;
        interface::set_up(name)?;
        Ok(Self {
            name: name.to_owned(),
            steering: None,
            queues: open,
            offloads,
        })
    }
}

impl Tun {
    /// Has the queues chosen by what they [attract](TunQueue::attract). Needs CAP_BPF or CAP_SYS_ADMIN outside user namespaces.
    pub fn steer(&mut self) -> Result<(), Error> {
        if let Some(queue) = self.queues.first() {
            self.steering = Some(steering::attach(queue)?);
        }
        Ok(())
    }

    /// Whether somebody deleted the interface, and its queues with it.
    pub fn is_gone(&self) -> bool {
        self.queues.first().is_some_and(is_dead)
    }
}

/// Nothing else than the end of the interface is an error of a queue.
fn is_dead(queue: &OwnedFd) -> bool {
    let mut ends = [PollFd::new(queue.as_fd(), PollFlags::empty())];
    poll(&mut ends, PollTimeout::ZERO).is_ok()
        && ends
            .iter()
            .filter_map(PollFd::revents)
            .any(|events| events.contains(PollFlags::POLLERR))
}

/// One queue, non-blocking. Each read and write is one packet (or super-packet) behind a `struct virtio_net_hdr_v1`, in the machine's byte order.
#[derive(Debug)]
pub struct TunQueue {
    fd: OwnedFd,
    /// The table that chooses among the queues, and which one this is.
    steering: Option<(TunSteering, usize)>,
}

impl TunQueue {
    /// Length of the header before each packet.
    pub const HEADER_BYTES: usize = 12;
    /// The most bytes of one read: header and super-packet.
    pub const MAX_READ: usize = Self::HEADER_BYTES + 65_535;

    /// Takes over a queue that another process opened.
    pub fn adopt(fd: OwnedFd) -> Self {
        Self { fd, steering: None }
    }

    /// The same with the table of [`Tun::steering`], and the number of this queue.
    pub fn adopt_steered(fd: OwnedFd, table: OwnedFd, number: usize) -> Result<Self, Error> {
        let steering = Some((TunSteering::adopt(table)?, number));
        Ok(Self { fd, steering })
    }

    /// Has packets to this destination come to this queue from now on, as far as it can be told (see [`Tun::steering`]) and until another queue is told.
    pub fn attract(&self, destination: IpAddr) {
        if let Some((steering, number)) = &self.steering {
            steering.set(destination, *number);
        }
    }

    /// Has packets to this destination go by flows among all queues from now on, likewise.
    pub fn spread(&self, destination: IpAddr) {
        if let Some((steering, _)) = &self.steering {
            steering.spread(destination);
        }
    }

    /// Reads a header and a packet; `WouldBlock` when none waits.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(nix::unistd::read(&self.fd, buffer)?)
    }

    /// Whether somebody deleted the interface: the queue will be reported as readable for ever, and never be read again.
    pub fn is_gone(&self) -> bool {
        is_dead(&self.fd)
    }

    /// Writes a header and a packet, given in parts.
    pub fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        nix::sys::uio::writev(&self.fd, parts)?;
        Ok(())
    }
}

impl AsFd for TunQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for TunQueue {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Memory for several reads of a queue, used again and again: packets are worked on together, so that what one needs is loaded while others are worked on.
#[derive(Debug)]
pub struct TunBatch {
    /// One read after the other.
    data: Vec<u8>,
    /// Where each begins and ends.
    reads: Vec<(usize, usize)>,
    most: usize,
}

impl TunBatch {
    /// Reads begin at multiples of this, so that headers do not lie across cache lines.
    const ALIGN: usize = 64;

    /// For `most` reads at once, at least one, of which together no more than about `bytes` are held.
    pub fn new(most: usize, bytes: usize) -> Self {
        Self {
            data: vec![0; bytes + TunQueue::MAX_READ],
            reads: Vec::with_capacity(most),
            most: most.max(1),
        }
    }

    /// Replaces what is held by what waits in a queue; returns how many reads that were. An error, also `WouldBlock`, is told when nothing was read.
    pub fn read(&mut self, queue: &TunQueue) -> io::Result<usize> {
        self.reads.clear();
        let mut start = 0;
        while self.reads.len() < self.most
            && let Some(room) = self.data.get_mut(start..start + TunQueue::MAX_READ)
        {
            match queue.read(room) {
                Ok(length) => {
                    self.reads.push((start, start + length));
                    start = (start + length).next_multiple_of(Self::ALIGN);
                }
                Err(error) if self.reads.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(self.reads.len())
    }

    /// What was read, each a header and a packet.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let (mut rest, mut gone) = (self.data.as_mut_slice(), 0);
        self.reads.iter().map_while(move |(start, end)| {
            let (_, after) = std::mem::take(&mut rest).split_at_mut_checked(start - gone)?;
            let (read, after) = after.split_at_mut_checked(end - start)?;
            (rest, gone) = (after, *end);
            Some(read)
        })
    }
}

/// Whether TUN devices can be made at all.
///
/// # Errors
/// [`Error::Unavailable`] with what to do, when there is no `/dev/net/tun`, this process may not open it, or it is another device.
pub fn check_tun() -> Result<(), Error> {
    let device = open_device()?;
    if has_features(&device) {
        return Ok(());
    }
    Err(Error::Unavailable {
        what: "/dev/net/tun".into(),
        remedy: "what stands there is no TUN device: make it with 'mknod /dev/net/tun c 10 200', or give the container the device with '--device /dev/net/tun'",
    })
}

/// Whether it is the TUN device: nothing else answers this question.
fn has_features(device: &OwnedFd) -> bool {
    let mut features: libc::c_uint = 0;
    // SAFETY: TUNGETFEATURES takes a pointer to an unsigned int, which lives through the call.
    let result = unsafe {
        libc::ioctl(
            device.as_raw_fd(),
            libc::TUNGETFEATURES,
            std::ptr::from_mut(&mut features),
        )
    };
    result == 0
}

fn open_device() -> Result<OwnedFd, Error> {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun");
    device.map(OwnedFd::from).map_err(|e| {
        let remedy = match e.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
                "load the module with 'modprobe tun', or give the container the device with '--device /dev/net/tun'"
            }
            Some(libc::EACCES) => "let this user open it: chmod 0666 /dev/net/tun",
            Some(libc::EPERM) => "the container may not use the device: start it with '--device /dev/net/tun'",
            _ => return Error::system("open /dev/net/tun", e),
        };
        Error::Unavailable {
            what: "/dev/net/tun".into(),
            remedy,
        }
    })
}

fn open_queue(name: &str, many: bool) -> Result<OwnedFd, Error> {
    let device = open_device()?;
    let mut request = interface::request(name)?;
    let flags =
        libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | if many { libc::IFF_MULTI_QUEUE } else { 0 };
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF takes an `ifreq`, which lives through the call.
    let result = unsafe {
        libc::ioctl(
            device.as_raw_fd(),
            libc::TUNSETIFF,
            std::ptr::from_mut(&mut request),
        )
    };
    if result < 0 {
        let error = io::Error::last_os_error();
        return Err(match error.raw_os_error() {
            Some(libc::EPERM) => Error::Unavailable {
                what: format!("the TUN interface {name}"),
                remedy: "give the node CAP_NET_ADMIN, or let it enter a user namespace",
            },
            _ => Error::system(format!("create the TUN interface {name}"), error),
        });
    }
    Ok(device)
}

fn set_offloads(queue: &OwnedFd) -> io::Result<Offloads> {
    let mut bytes = TunQueue::HEADER_BYTES as libc::c_int;
    // SAFETY: TUNSETVNETHDRSZ takes a pointer to an int, which lives through the call.
    if unsafe {
        libc::ioctl(
            queue.as_raw_fd(),
            libc::TUNSETVNETHDRSZ,
            std::ptr::from_mut(&mut bytes),
        )
    } < 0
    {
        return Err(io::Error::last_os_error());
    }
    // Since Linux 6.2: UDP segmentation, for both families or for none.
    const TUN_F_USO: libc::c_uint = 0x20 | 0x40;
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    for (flags, offloads) in [(tcp | TUN_F_USO, Offloads::TcpAndUdp), (tcp, Offloads::Tcp)] {
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        if unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(flags)) } == 0 {
            return Ok(offloads);
        }
    }
    Ok(Offloads::None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::{address, is_root};
    use crate::{Namespace, Poller};
    use std::net::{Ipv4Addr, UdpSocket};
    use std::time::Duration;

    #[test]
    fn another_device_is_no_tun() {
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(!has_features(&null.into()));
        if let Ok(device) = open_device() {
            assert!(has_features(&device));
        }
    }

    #[test]
    fn super_packets_come_out_and_go_in() {
        if !is_root() {
            return;
        }
        let work = || {
            let tun = Tun::create("swn-tun0", 1, 1400).unwrap();
            assert_eq!(tun.offloads, Offloads::TcpAndUdp);
            address("swn-tun0", "10.99.0.1/24");
            let queue = TunQueue::adopt(tun.queues.into_iter().next().unwrap());
            let mut poller = Poller::new(1).unwrap();
            poller.add(&queue, 1).unwrap();
            let mut batch = TunBatch::new(8, TunQueue::MAX_READ);

            // Out: ten datagrams sent with UDP GSO arrive as one packet without checksum.
            let socket = crate::DatagramSocket::bind_udp(
                "10.99.0.1:7000".parse().unwrap(),
                crate::SocketOptions::default(),
            );
            let data: Vec<u8> = (0..10).flat_map(|n| [n; 1000]).collect();
            let to = (Ipv4Addr::new(10, 99, 0, 2), 7001).into();
            let datagram = crate::Datagram {
                segment: Some(1000),
                ..crate::Datagram::to(to, &data)
            };
            crate::SendBatch::new(1)
                .send(&socket.unwrap(), &[datagram])
                .unwrap();
            let (header, mut packet) = loop {
                assert_eq!(
                    poller.wait(Some(Duration::from_secs(5))).unwrap().count(),
                    1,
                    "nothing came out of the TUN"
                );
                batch.read(&queue).unwrap();
                // Routers are solicited on a new interface; that is not ours.
                let ours = batch
                    .iter_mut()
                    .find(|read| read[TunQueue::HEADER_BYTES] >> 4 == 4);
                if let Some(read) = ours {
                    let (header, packet) = read.split_at(TunQueue::HEADER_BYTES);
                    break (header.to_vec(), packet.to_vec());
                }
            };
            // UDP segmentation into 1000 octets each; the checksum from 20 on goes to 6 from there.
            let word = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
            assert_eq!((header[1], word(4)), (5, 1000));
            assert_eq!((header[0], word(6), word(8)), (1, 20, 6));
            assert_eq!(packet.len(), 28 + data.len());

            // In: the same super-packet with addresses and ports swapped, in parts, arrives as ten datagrams. Swapping changes no checksum.
            let receiver = UdpSocket::bind("10.99.0.1:7000").unwrap();
            receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            for n in 0..4 {
                packet.swap(12 + n, 16 + n);
            }
            packet.swap(20, 22);
            packet.swap(21, 23);
            let (front, back) = packet.split_at(100);
            queue
                .write(&[IoSlice::new(&header), IoSlice::new(front), IoSlice::new(back)])
                .unwrap();
            let mut datagram = [0; 2000];
            for n in 0..10u8 {
                assert_eq!(receiver.recv(&mut datagram).unwrap(), 1000);
                assert_eq!(datagram[..1000], [n; 1000]);
            }
        };
        Namespace::create().unwrap().run(work).unwrap();
    }

    #[test]
    fn an_interface_has_as_many_queues_as_wanted_and_ends_with_them() {
        if !is_root() {
            return;
        }
        let work = || {
            let tun = Tun::create("swn-tun1", 3, 1400).unwrap();
            assert_eq!((tun.queues.len(), tun.name.as_str()), (3, "swn-tun1"));
            let read = |file: &str| {
                std::process::Command::new("ip")
                    .args(["link", "show", file])
                    .output()
                    .unwrap()
            };
            let shown = String::from_utf8(read("swn-tun1").stdout).unwrap();
            assert!(
                shown.contains("mtu 1400") && shown.contains("qlen 5000") && shown.contains(",UP"),
                "{shown}"
            );
            let busy = Tun::create("swn-tun1", 1, 1400).unwrap_err();
            assert!(
                busy.to_string()
                    .starts_with("cannot create the TUN interface swn-tun1: "),
                "{busy}"
            );
            drop(tun);
            assert!(interface::index("swn-tun1").is_err());
        };
        Namespace::create().unwrap().run(work).unwrap();
        assert!(matches!(
            Tun::create("swn-tun2", 0, 1400),
            Err(Error::Invalid { .. })
        ));
    }

    #[test]
    fn a_deleted_interface_is_noticed() {
        if !is_root() {
            return;
        }
        let namespace = Namespace::create().unwrap();
        let tun = namespace
            .run(|| Tun::create("swn-gone", 2, 1400))
            .unwrap()
            .unwrap();
        let queue = TunQueue::adopt(tun.queues[1].try_clone().unwrap());
        assert!(!tun.is_gone() && !queue.is_gone());
        let deleted = namespace
            .run(|| {
                std::process::Command::new("ip")
                    .args(["link", "del", "swn-gone"])
                    .status()
            })
            .unwrap();
        if !deleted.is_ok_and(|status| status.success()) {
            eprintln!("skipped: needs ip");
            return;
        }
        assert!(tun.is_gone() && queue.is_gone());
        assert_ne!(
            queue.read(&mut [0; 2000]).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    }
}
