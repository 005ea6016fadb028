/** Network namespaces of Linux, in which machines have the addresses that a test chooses. Requires root. */

import {execFileSync, spawn} from 'node:child_process';
import {once} from 'node:events';
import {chmodSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {connect, createServer} from 'node:net';
import {tmpdir} from 'node:os';
import {join} from 'node:path';

/** Why namespaces are not available, or false. */
export const skipNamespaces = process.getuid?.() !== 0 && 'requires root for network namespaces';

let count = 0;

/** Namespace has a loopback interface, and an interface lan0 with addresses that leads to no other machine. */
export class Namespace {
  #directory = mkdtempSync(join(tmpdir(), 'inbox-namespace-'));
  #gateway = '';
  /** @type {(() => void)[]} */
  #ends = [];

  /** @param {string[]} [addresses] with the length of the prefix, as 192.168.7.2/24; without any, there is no lan0 */
  constructor(addresses = []) {
    this.name = `pages${process.pid}-${++count}`;
    ip('netns', 'add', this.name);
    process.once('exit', () => this.remove()); // a test that times out runs no cleanup
    this.#ip('link', 'set', 'lo', 'up');
    if (addresses.length === 0) return;
    this.#ip('link', 'add', 'lan0', 'type', 'veth', 'peer', 'name', 'lan1');
    this.#setUp('lan0', addresses);
    this.#setUp('lan1', []);
  }

  /**
   * Connects two namespaces by their lan0.
   * @param {Namespace} other
   * @param {[string, string]} addresses of this one and of the other, as 192.168.7.1/24
   */
  connect(other, [own, others]) {
    this.#ip('link', 'add', 'lan0', 'type', 'veth', 'peer', 'name', 'lan0', 'netns', other.name);
    this.#setUp('lan0', [own]);
    other.#setUp('lan0', [others]);
    this.#setGateway(others);
    other.#setGateway(own);
  }

  /**
   * Leads connections to a port of 127.0.0.1 of this machine to the same port of the namespace.
   * @param {number} port
   */
  async forward(port) {
    const path = join(this.#directory, `port-${port}`);
    const relay = `const {connect, createServer} = require('net');
      createServer(one => { const two = connect(${port}, '127.0.0.1'); one.pipe(two).pipe(one); one.on('error', () => {}); two.on('error', () => one.destroy()); })
        .listen('${path}', () => console.log('listening'));`;
    const child = spawn('ip', ['netns', 'exec', this.name, process.execPath, '-e', relay], {stdio: ['ignore', 'pipe', 'inherit']});
    process.once('exit', () => child.kill());
    await once(child.stdout, 'data');
    const server = createServer(one => {
      const two = connect(path);
      one.pipe(two).pipe(one);
      for (const socket of [one, two]) socket.on('error', () => one.destroy());
    });
    await new Promise(resolve => server.listen(port, '127.0.0.1', () => resolve(null)));
    this.#ends.push(() => server.close(), () => child.kill());
  }

  /** Interrupts the network, or restores it. @param {'down'|'up'} state */
  setNetwork(state) {
    this.#ip('link', 'set', 'lan0', state);
    if (state === 'up') this.#ip('route', 'add', 'default', 'via', this.#gateway);
  }

  /** @param {string} address */
  #setGateway(address) {
    [this.#gateway] = address.split('/');
    this.#ip('route', 'add', 'default', 'via', this.#gateway);
  }

  /** @param {string} device @param {string[]} addresses */
  #setUp(device, addresses) {
    // Addresses that IPv6 tests after a second look like a change of the network to Chromium.
    this.#ip('link', 'set', device, 'addrgenmode', 'none');
    for (const address of addresses) this.#ip('address', 'add', address, 'dev', device);
    this.#ip('link', 'set', device, 'up');
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
    for (const end of this.#ends) end();
    ip('netns', 'delete', this.name);
    rmSync(this.#directory, {recursive: true});
    this.name = '';
  }
}

/** @param {string[]} args */
function ip(...args) {
  execFileSync('ip', args, {stdio: 'pipe'});
}
