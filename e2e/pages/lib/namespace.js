/** A network namespace of Linux, in which a machine has the addresses that a test chooses. Requires root. */

import {execFileSync} from 'node:child_process';
import {chmodSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';

/** Why namespaces are not available, or false. */
export const skipNamespaces = process.getuid?.() !== 0 && 'requires root for network namespaces';

/** Namespace has a loopback interface, and an interface with addresses that leads to no other machine. */
export class Namespace {
  #directory = mkdtempSync(join(tmpdir(), 'inbox-namespace-'));

  /** @param {string[]} addresses with the length of the prefix, as 192.168.7.2/24 */
  constructor(addresses) {
    this.name = `pages${process.pid}`;
    ip('netns', 'add', this.name);
    this.#ip('link', 'set', 'lo', 'up');
    this.#ip('link', 'add', 'lan0', 'type', 'veth', 'peer', 'name', 'lan1');
    // Addresses that IPv6 tests after a second look like a change of the network to Chromium.
    for (const device of ['lan0', 'lan1']) this.#ip('link', 'set', device, 'addrgenmode', 'none');
    for (const address of addresses) this.#ip('address', 'add', address, 'dev', 'lan0');
    for (const device of ['lan0', 'lan1']) this.#ip('link', 'set', device, 'up');
    process.once('exit', () => this.remove()); // a test that times out runs no cleanup
  }

  /** @param {string[]} args */
  #ip(...args) {
    ip('-n', this.name, ...args);
  }

  /** Returns the path of a script that runs a program in the namespace. @param {string} program */
  script(program) {
    const path = join(this.#directory, 'run');
    writeFileSync(path, `#!/bin/sh\nexec ip netns exec ${this.name} '${program}' "$@"\n`);
    chmodSync(path, 0o755);
    return path;
  }

  remove() {
    if (!this.name) return;
    ip('netns', 'delete', this.name);
    rmSync(this.#directory, {recursive: true});
    this.name = '';
  }
}

/** @param {string[]} args */
function ip(...args) {
  execFileSync('ip', args, {stdio: 'pipe'});
}
