import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { silentMount } from '../src/mounts.ts';

const mounts = `/dev/sda / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
C:\\134 /mnt/c 9p rw,aname=drvfs;path=C:\\;uid=1000 0 0
C: /mnt/d drvfs rw 0 0
//nas/share /mnt/my\\040share cifs rw 0 0
//nas/share /mnt/smb3 smb3 rw 0 0
nas:/home /home/me/nas nfs4 rw 0 0
grpcfuse /srv fuse.grpcfuse rw 0 0
sshfs#host: /mnt/ssh fuse.sshfs rw 0 0
/dev/sdb /mnt/windows fuseblk rw 0 0
share /mnt/vm virtiofs rw 0 0
vboxsf /mnt/vbox vboxsf rw 0 0
overlay /mnt/vm/layers overlay rw 0 0
nas:/x /mnt/over nfs rw 0 0
/dev/sdc /mnt/over ext4 rw 0 0

incomplete
`;

const cases: [string, string | undefined][] = [
  ['/home/me/site', undefined],
  ['/home/me/nas', 'nfs4'],
  ['/home/me/nas/site', 'nfs4'],
  ['/home/me/nasty', undefined],
  ['/mnt/c/Users', '9p'],
  ['/mnt/d/Users', 'drvfs'],
  ['/mnt/my share/site', 'cifs'],
  ['/mnt/smb3', 'smb3'],
  ['/srv/site', 'fuse.grpcfuse'],
  ['/mnt/ssh', 'fuse.sshfs'],
  ['/mnt/windows/site', undefined],
  ['/mnt/vm/site', 'virtiofs'],
  ['/mnt/vm/layers/site', undefined],
  ['/mnt/vbox/site', 'vboxsf'],
  ['/mnt/over/site', undefined],
];

for (const [file, expected] of cases) {
  test(`silentMount() of ${file} is ${expected}`, () => assert.is(silentMount(mounts, file), expected));
}

test('silentMount() of an empty list', () => assert.is(silentMount('', '/site'), undefined));

test.run();
