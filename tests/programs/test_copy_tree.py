"""What Sley writes as other programs read it: a tree that copy_tree has copied, compared by diff, cp -a and an eye for the inodes; and an
SQLite database that it replaces over and over while sqlite3 reads it. test_copy_tree.py PROGRAM."""
import os
import random
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv.pop(1)
SEED = random.SystemRandom().randrange(1 << 32)
SIZES = [0, 1, 4095, 4096, 4097, 65535, 65536, 65537, 131072, 1000003]
MODES = [0o644, 0o600, 0o755, 0o400, 0o666, 0o511, 0o604, 0o777] # a write takes the others away from who is not root
CHECKS = 20


def run(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def describe(root):
    """What must be the same: kind, mode, length, target and contents of each name; and which names are one file."""
    found, inodes = {}, {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        for name in folders + files:
            path = os.path.join(folder, name)
            st, relative = os.lstat(path), os.path.relpath(path, os.fsencode(root))
            content = b''
            if stat.S_ISREG(st.st_mode):
                with open(path, 'rb') as f:
                    content = f.read()
                inodes.setdefault(st.st_ino, []).append(relative)
            elif stat.S_ISLNK(st.st_mode):
                content = os.readlink(path)
            found[relative] = (st.st_mode, content)
    return found, sorted(sorted(names) for names in inodes.values() if len(names) > 1)


def setUpModule():
    print('seed', SEED)


class CopyTree(unittest.TestCase):
    def setUp(self):
        self.rng = random.Random(SEED)
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.source, self.copy, self.again = (self.folder + name for name in ('/source', '/copy', '/again'))

    def make_tree(self):
        folders = [self.source]
        os.mkdir(self.source)
        for i in range(30): # some deep, some wide
            path = '%s/d%d' % (self.rng.choice(folders), i)
            os.mkdir(path)
            os.chmod(path, self.rng.choice([0o755, 0o700, 0o1777, 0o750]))
            folders.append(path)
        files = []
        names = ['plain', 'with space', 'x' * 255, 'ünïcødé', os.fsdecode(b'not utf-8 \xff'), '-dash', 'new\nline', '.hidden']
        for i, size in enumerate(SIZES * 3 + [self.rng.randrange(300000) for _ in range(70)]):
            path = os.path.join(self.rng.choice(folders), names[i] if i < len(names) else 'f%d' % i)
            with open(path, 'wb') as f:
                f.write(self.rng.randbytes(size))
                if i % 10 == 9: # a hole at the end
                    f.truncate(size + 100000)
            os.chmod(path, self.rng.choice(MODES))
            files.append(path)
        for i in range(20):
            os.link(self.rng.choice(files), '%s/hard%d' % (self.rng.choice(folders), i))
        for i, target in enumerate(['plain', '/nowhere', '../..', 'x' * 4000, '.'] + [self.rng.choice(files) for _ in range(10)]):
            os.symlink(target, '%s/soft%d' % (self.rng.choice(folders), i))

    def test_a_tree(self):
        self.make_tree()
        run(PROGRAM, self.source, self.copy)
        self.assertEqual(describe(self.copy), describe(self.source))
        self.assertEqual(run('diff', '-r', '--no-dereference', self.source, self.copy), '')
        run('cp', '-a', self.copy, self.again) # another program reads it all, and its copy is no other
        self.assertEqual(describe(self.again), describe(self.source))

    def test_a_database_that_is_replaced_while_it_is_read(self):
        if shutil.which('sqlite3') is None:
            self.skipTest('no sqlite3')
        versions, database = [], self.folder + '/database'
        for rows in (10, 5000, 300, 20000): # of different lengths: a mixture would show
            path = '%s/version-%d' % (self.folder, rows)
            run('sqlite3', path, 'create table t(a integer primary key, b text); create index i on t(b);'
                'with recursive n(x) as (select 1 union all select x + 1 from n where x < %d) '
                "insert into t select x, 'row ' || x || ' of %d' from n;" % (rows, rows))
            versions.append(path)
        process = subprocess.Popen([PROGRAM, '-r', database, *versions], stdout=subprocess.PIPE, text=True)
        self.assertEqual(process.stdout.readline(), 'replaced\n')
        seen = set()
        for _ in range(CHECKS):
            answer = run('sqlite3', '-readonly', database, 'pragma integrity_check;'
                         "select count(*), min(substr(b, instr(b, ' of ') + 4)), max(substr(b, instr(b, ' of ') + 4)) from t;").splitlines()
            self.assertEqual(answer[0], 'ok')
            count, first, last = answer[1].split('|')
            self.assertEqual((first, last), (count, count))
            seen.add(count)
        process.terminate()
        output = process.communicate()[0]
        self.assertEqual(process.returncode, 0)
        self.assertRegex(output, r'^replaced [1-9]\d* times\n$')
        self.assertLessEqual(seen, {'10', '5000', '300', '20000'})
        whole = [version for version in versions if subprocess.run(['cmp', '-s', version, database]).returncode == 0]
        self.assertEqual(len(whole), 1)
        self.assertEqual(run('sqlite3', database, 'pragma integrity_check; vacuum; pragma integrity_check;'), 'ok\nok\n')
        self.assertEqual(sorted(os.listdir(self.folder)), sorted(os.path.basename(v) for v in versions + [database])) # nothing beside them


if __name__ == '__main__':
    unittest.main(verbosity=2)
