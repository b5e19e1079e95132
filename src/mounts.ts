// Which folders lie on a file system that tells nobody of changes made elsewhere: network shares, and folders of the
// host inside a container or virtual machine. Pure: it reads the text of /proc/self/mounts, not the file.

// fuseblk is NTFS on a local disk: its changes are made through this kernel, which tells of them.
const SILENT = /^(9p|drvfs|cifs|smb3|smbfs|nfs\d?|ceph|afs|ncpfs|virtiofs|vboxsf|prl_fs|vmhgfs|fuse(\..+)?)$/;

/** The type of the file system that holds `file`, if changes made elsewhere can stay unseen there; else `undefined`. */
export function silentMount(mounts: string, file: string): string | undefined {
  let deepest = '';
  let type = '';
  for (const line of mounts.split('\n')) {
    const [, point, kind] = line.split(' ');
    if (point === undefined || kind === undefined) continue;
    const path = unescaped(point);
    // A later line is mounted over an earlier one of the same place.
    if (!holds(path, file) || path.length < deepest.length) continue;
    deepest = path;
    type = kind;
  }
  return SILENT.test(type) ? type : undefined;
}

function holds(mount: string, file: string): boolean {
  return mount === '/' || file === mount || file.startsWith(`${mount}/`);
}

// Space, tab, line feed and backslash are written in octal: proc_pid_mounts(5), fstab(5).
function unescaped(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
