/**
 * The rooms that the user keeps on this device. They are in localStorage, with their
 * secrets: everyone who uses this profile of the browser can open them.
 */

import {Room} from './room.js';

const KEY = 'inbox.rooms';
/** Maximum number of rooms. The one that was not used for the longest time is dropped. */
const MAX_ROOMS = 30;
/** Maximum number of characters of a name. */
export const MAX_NAME_LENGTH = 60;
const PAGES = ['call', 'send', 'receive'];
/** Characters that have no place in a name, and could hide or reorder the text around it. */
const CONTROLS = /[\p{Cc}\p{Cs}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu;

/**
 * @typedef {import('./code-pairing.js').RoomPage} RoomPage
 * @typedef {{id: string, secret: string, page: RoomPage, name: string, used: number, slot?: 'a'|'b', pass?: string}} RememberedRoom
 *   page is the page that opens the room on this device, used the time as from
 *   Date.now(), slot the slot of a two-way call that this device had last,
 *   pass the guest pass for a private server
 * @typedef {Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>} RoomStorage
 */

/** RememberedRooms reads and writes the rooms. Blocked or full storage keeps none. */
export class RememberedRooms {
  #storage;

  /** @param {() => RoomStorage} storage which can throw: a browser can block it */
  constructor(storage) {
    this.#storage = storage;
  }

  /** Returns the rooms, the last used one first. @returns {RememberedRoom[]} */
  list() {
    try {
      const kept = JSON.parse(this.#storage().getItem(KEY) ?? '[]');
      return (Array.isArray(kept) ? kept : []).flatMap(parseRoom).sort((a, b) => b.used - a.used);
    } catch {
      return [];
    }
  }

  /** @param {string} id */
  find(id) {
    return this.list().find(room => room.id === id);
  }

  /**
   * Keeps a room, and reports whether that worked.
   * @param {RememberedRoom} room replaces the one with the same identifier
   */
  remember(room) {
    const others = this.list().filter(({id}) => id !== room.id);
    return this.#write([{...room, name: cleanName(room.name)}, ...others].slice(0, MAX_ROOMS));
  }

  /**
   * Changes a room, if it is kept.
   * @param {string} id
   * @param {Partial<Pick<RememberedRoom, 'name' | 'page' | 'used' | 'slot' | 'pass'>>} change
   */
  update(id, change) {
    const room = this.find(id);
    return room !== undefined && this.remember({...room, ...change});
  }

  /** @param {string} id */
  forget(id) {
    return this.#write(this.list().filter(room => room.id !== id));
  }

  /** @param {RememberedRoom[]} rooms */
  #write(rooms) {
    try {
      if (rooms.length > 0) this.#storage().setItem(KEY, JSON.stringify(rooms));
      else this.#storage().removeItem(KEY);
      return true;
    } catch {
      return false;
    }
  }
}

export const rememberedRooms = new RememberedRooms(() => localStorage);

/**
 * Calls a function when another page of this browser changes the rooms.
 * @param {() => void} onChange
 */
export function watchRooms(onChange) {
  addEventListener('storage', event => (event.key === KEY || event.key === null) && onChange());
}

/**
 * Returns the link that opens a room on this device.
 * @param {RememberedRoom} room
 */
export function linkOf({id, secret, page, pass}) {
  return `${page}.html${new Room(id, secret, pass).fragment}`;
}

/**
 * Returns a name as it is kept: in one line, without characters that change the
 * direction of the text around it.
 * @param {string} name
 */
export function cleanName(name) {
  const clean = name.replace(CONTROLS, ' ').replace(/\s+/g, ' ').trim();
  return [...clean].slice(0, MAX_NAME_LENGTH).join('').trim();
}

/**
 * Returns a kept room in an array, or an empty one if it is not valid.
 * @param {any} kept
 * @returns {RememberedRoom[]}
 */
function parseRoom(kept) {
  const {id, secret, page, name, used, slot} = kept ?? {};
  const room = Room.from(`#${id}.${secret}`);
  const {pass} = new Room('', '', kept?.pass);
  if (!room || !PAGES.includes(page)) return [];
  const time = Number.isFinite(used) ? used : 0;
  return [{id: room.id, secret: room.secret, page, name: typeof name === 'string' ? cleanName(name) : '', used: time, ...slot === 'a' || slot === 'b' ? {slot} : {}, ...pass && {pass}}];
}
