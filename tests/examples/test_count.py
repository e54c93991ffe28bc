"""The counts of a tree with everything in it that makes counting go wrong are those of wc and grep."""
import os
import random
import re
import subprocess
import sys
import tempfile
import unittest

C_LOCALE = dict(os.environ, LC_ALL='C')
BLOCK = 65536  # of the program: matches and words lie across its borders
NEEDLE = 'needle'


def make_tree(root):
    rng = random.Random(1)
    words = ['needle', 'haystack', 'need', 'le', 'needneedle', 'a', 'of', 'straw\t', '\v', '\f']

    def write(path, data):
        path = os.path.join(root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'wb') as f:
            f.write(data)

    write('empty', b'')
    write('no newline at the end', b'one needle\ntwo needle')
    write('only newlines', b'\n' * 1000)
    write('only a needle', b'needle')
    write('one long line', b'x' * 300000 + b' needle ' + b'y' * 300000)
    write('binary', bytes(rng.randrange(256) for _ in range(200000)))
    write('zeros', b'\0' * 70000 + b'needle\0\n\0needle')
    write('carriage returns', b'needle\r\nb\r\n\rneedle')
    for shift in range(-8, 3):  # a needle at each place across the end of a block, after lines that end there as well
        write('border/%d' % shift, b'.' * (BLOCK + shift) + b'needle needle\nneedle\n')
        write('border/line %d' % shift, b'.' * (BLOCK + shift - 1) + b'\nneedle\n')
        write('border/twice %d' % shift, b'needle' + b'.' * (BLOCK + shift - 6) + b'needle')
    for i in range(600):
        data = ''.join(rng.choice(words) + rng.choice(' \n ') for _ in range(rng.randrange(200)))
        write('many/%d/%d/file %d' % (i % 7, i % 3, i), data.encode())
    write('/'.join(['deep'] * 60) + '/file', b'needle\n')
    os.symlink('no newline at the end', os.path.join(root, 'link to a file'))
    os.symlink('.', os.path.join(root, 'link to a directory'))


def expected(root):
    files = subprocess.run(['find', root, '-type', 'f', '-print0'], check=True, stdout=subprocess.PIPE).stdout.split(b'\0')[:-1]
    counts = {}
    for path in files:
        wc = subprocess.run(['wc', '-lwc', path], check=True, stdout=subprocess.PIPE, env=C_LOCALE).stdout.split()[:3]
        grep = subprocess.run(['grep', '-acF', '-e', NEEDLE, path], stdout=subprocess.PIPE, env=C_LOCALE).stdout
        counts[path] = tuple(int(n) for n in wc) + (int(grep),)
    return counts


class Count(unittest.TestCase):
    def run_it(self, *args):
        done = subprocess.run([PROGRAM, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return done.returncode, done.stdout.split(b'\n')[:-1], done.stderr

    def test_counts_are_those_of_wc_and_grep(self):
        with tempfile.TemporaryDirectory() as root:
            make_tree(root)
            want = expected(root)
            status, lines, errors = self.run_it('-p', NEEDLE, root)
            self.assertEqual((status, errors), (0, b''))
            got = {}
            for line in lines[:-1]:
                *numbers, path = re.fullmatch(rb'(\d+) (\d+) (\d+) (\d+) (.*)', line).groups()
                self.assertNotIn(path, got)
                got[path] = tuple(int(n) for n in numbers)
            self.assertEqual(got, want)
            total = [sum(column) for column in zip(*want.values())]
            self.assertEqual(lines[-1].decode(), '%d %d %d %d total' % tuple(total))

    def test_without_a_pattern_there_is_no_fourth_column(self):
        with tempfile.TemporaryDirectory() as root:
            with open(os.path.join(root, 'file'), 'w') as f:
                f.write('a b\n')
            status, lines, _ = self.run_it(root)
            self.assertEqual((status, lines), (0, [b'1 2 4 %s/file' % root.encode(), b'1 2 4 total']))

    def test_an_empty_tree_counts_nothing(self):
        with tempfile.TemporaryDirectory() as root:
            self.assertEqual(self.run_it(root), (0, [b'0 0 0 total'], b''))

    def test_a_missing_tree_is_an_error(self):
        status, lines, errors = self.run_it('/there is no such directory')
        self.assertEqual((status, lines), (1, [b'0 0 0 total']))
        self.assertIn(b'/there is no such directory: No such file', errors)

    def test_bad_arguments_are_refused(self):
        for args in [], ['a', 'b'], ['-p', '', '.'], ['-p', 'two\nlines', '.'], ['-x', '.']:
            self.assertEqual(self.run_it(*args)[:2], (2, []), args)


if __name__ == '__main__':
    PROGRAM = sys.argv.pop(1)
    unittest.main(verbosity=2)
