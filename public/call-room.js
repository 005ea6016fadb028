/** Joins the room of a two-way call: takes one of its two slots. */

import {createContext, createInbox, openRoom, statusView} from './page.js';
import {rememberedRooms} from './remember.js';
import {SlotMemory, retryFreeSlot, takeFreeSlot, takeSlot} from './slots.js';
import {noticeFor} from './status.js';

/** Milliseconds between attempts to take a slot while both are taken. */
const SLOT_INTERVAL = 15_000;

/**
 * @typedef {import('./stream-inbox.js').StreamInbox} Inbox
 * @typedef {import('./room.js').Room} Room
 * @typedef {import('./room.js').Slot} Slot
 * @typedef {import('./slots.js').Place} Place
 * @typedef {(slot: Slot) => Promise<Inbox>} CreateInbox
 * @typedef {(take: (slot: Slot) => void) => void} OnFull runs when other devices have both
 *   slots; take replaces one of them
 */

/**
 * Takes a slot of the room, and waits for one if both are taken. Returns null if the
 * page cannot work.
 * @param {{onFull: OnFull}} options
 * @returns {Promise<import('./page.js').CallContext | null>}
 */
export async function joinCall({onFull}) {
  const opened = openRoom();
  if (!opened) return null;
  const {room, made} = opened;
  const memory = new SlotMemory(room.id);
  const own = memory.get() ?? rememberedRooms.find(room.id)?.slot ?? null;
  const seeker = new SlotSeeker(room);
  const free = await takeFreeSlot({createInbox: seeker.createInbox, own, made});
  const {slot, inbox} = free ?? await waitForSlot(seeker.createInbox, onFull);
  seeker.done = true;
  memory.set(slot);
  rememberedRooms.update(room.id, {slot});
  // Several devices can remember the same slot. The one that is replaced looks for a free one, and forgets its own, so
  // that it replaces no other page in turn.
  const leaveSlot = () => {
    memory.set(null);
    rememberedRooms.update(room.id, {slot: undefined});
    location.reload();
  };
  return {...createContext(opened, slot, inbox), slot, ...free && {leaveSlot}};
}

/**
 * SlotSeeker creates the inboxes of slots, and shows their errors until the page has one.
 * A page that closes before releases them, because the server can have given it a slot.
 */
class SlotSeeker {
  done = false;
  /** @type {Inbox[]} */
  #inboxes = [];
  #room;

  /** @param {Room} room */
  constructor(room) {
    this.#room = room;
    addEventListener('pagehide', () => {
      for (const inbox of this.#inboxes) if (!this.done && inbox.status !== 'closed') inbox.release();
    });
  }

  /** @type {CreateInbox} */
  createInbox = async slot => {
    const inbox = await createInbox(this.#room, slot);
    this.#inboxes = [...this.#inboxes.filter(({status}) => status !== 'closed'), inbox];
    inbox.addEventListener('error', event => {
      if (!this.done && inbox.status !== 'refused') statusView.show(noticeFor(/** @type {CustomEvent} */ (event).detail));
    });
    return inbox;
  };
}

/**
 * Waits until a slot is free, or the user takes one over.
 * @param {CreateInbox} createInbox
 * @param {OnFull} onFull
 * @returns {Promise<Place>}
 */
function waitForSlot(createInbox, onFull) {
  return new Promise(resolve => {
    let done = false;
    const use = (/** @type {Place | null} */ place) => {
      if (done) return place?.inbox.release();
      if (!place) return;
      done = true;
      stop();
      resolve(place);
    };
    const stop = retryFreeSlot(createInbox, use, SLOT_INTERVAL);
    document.body.dataset.state = 'full';
    onFull(async slot => use(await takeSlot(createInbox, slot)));
  });
}
