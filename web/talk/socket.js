import { api } from "../../../scripts/api.js";

const RETRY_MS = 1000;
const MOST_WAITING = 96_000; // bytes, two seconds of sound: a connection that is slower than speech gets no more

/**
 * A connection on which the microphone's pieces and messages go up, and messages come down. It is made again when it
 * breaks. Events: "connected", "message" with the message as its detail, "broken", and "gone" when the server knows the
 * path no more.
 */
export class TalkSocket extends EventTarget {
    #path;
    #socket = null;
    #timer = 0;

    /** `path` is the route on the host's server. */
    constructor(path) {
        super();
        this.#path = api.apiURL(path);
        this.#connect();
    }

    /** Whether messages arrive at the server. */
    get connected() {
        return this.#socket?.readyState === WebSocket.OPEN;
    }

    /** Send a message; false without a connection. */
    tell(message) {
        if (this.connected) this.#socket.send(JSON.stringify(message));
        return this.connected;
    }

    /** Send a piece of the microphone's sound; false when it cannot be sent in time. */
    hear(piece) {
        const possible = this.connected && this.#socket.bufferedAmount < MOST_WAITING;
        if (possible) this.#socket.send(piece);
        return possible;
    }

    close() {
        clearTimeout(this.#timer);
        const socket = this.#socket;
        this.#socket = null;
        socket?.close();
    }

    #connect() {
        const address = new URL(this.#path, location.href);
        address.protocol = address.protocol.replace("http", "ws");
        const socket = (this.#socket = new WebSocket(address));
        socket.addEventListener("open", () => this.#current(socket) && this.#tell("connected"));
        socket.addEventListener("message", ({ data }) => this.#current(socket) && this.#tell("message", JSON.parse(data)));
        socket.addEventListener("close", () => this.#current(socket) && this.#retry());
    }

    async #retry() {
        this.#tell("broken");
        const socket = this.#socket;
        // A browser does not say why it could not connect; an ordinary request is told.
        const answer = await fetch(this.#path).catch(() => null);
        if (!this.#current(socket)) return;
        if (answer?.status === 404) return this.#tell("gone");
        this.#timer = setTimeout(() => this.#connect(), RETRY_MS);
    }

    #current(socket) {
        return socket === this.#socket;
    }

    #tell(type, detail) {
        this.dispatchEvent(new CustomEvent(type, { detail }));
    }
}
