import { api } from "../../scripts/api.js";

// Watches a live stream by WebRTC: the server sends each frame with its sound when it is due.

const KEPT_BACK = 0.06; // seconds that the browser needs from a frame's arrival until it shows it
const AHEAD_MS = 300; // a position goes on by itself for so long

/** One connection. Events: "end" when the server sends no more, or cannot be reached any more. */
export class Direct extends EventTarget {
    #peer = null;
    #socket = null;
    #shown = { seconds: 0, moving: false };
    #heard = 0;
    connected = false;
    over = false; // nothing comes any more

    /** Show the stream with this id in `video`; an Error where that cannot be done, also when it is closed before. */
    async open(video, id) {
        const address = new URL(api.apiURL(`/liveavatar/stream/${id}/webrtc`), location.href);
        address.protocol = address.protocol.replace("http", "ws");
        const peer = (this.#peer = new RTCPeerConnection()); // without servers: nobody outside is asked
        for (const kind of ["audio", "video"]) peer.addTransceiver(kind, { direction: "recvonly" });
        peer.addEventListener("track", ({ receiver, streams }) => {
            receiver.jitterBufferTarget = 0;
            if (video.srcObject !== streams[0]) video.srcObject = streams[0];
        });
        await peer.setLocalDescription();
        const socket = (this.#socket = new WebSocket(address));
        await new Promise((resolve, reject) => {
            const fail = () => reject(new Error("The server cannot be reached by WebRTC."));
            socket.addEventListener("open", () => socket.send(JSON.stringify({ type: "offer", sdp: peer.localDescription.sdp })));
            socket.addEventListener("message", ({ data }) => this.#take(JSON.parse(data)).catch(fail));
            socket.addEventListener("close", fail);
            peer.addEventListener("connectionstatechange", () => {
                if (peer.connectionState === "failed") fail();
                if (peer.connectionState === "connected") resolve();
            });
        });
        this.connected = true;
        const end = () => {
            this.over = true;
            this.dispatchEvent(new Event("end"));
        };
        socket.addEventListener("close", end);
        peer.addEventListener("connectionstatechange", () => peer.connectionState === "failed" && end());
    }

    /** How much of the video has been shown, in seconds. */
    get position() {
        const { seconds, moving } = this.#shown;
        const since = moving ? Math.min(performance.now() - this.#heard, AHEAD_MS) / 1000 : 0;
        return Math.max(0, seconds + since - (moving ? KEPT_BACK : 0));
    }

    close() {
        this.#socket?.close();
        this.#peer?.close();
    }

    async #take({ type, ...message }) {
        if (type === "answer") await this.#peer.setRemoteDescription({ type, sdp: message.sdp });
        else if (type === "error") throw new Error(message.message);
        else if (type === "shown") {
            this.#shown = message;
            this.#heard = performance.now();
        } else if (type === "end") this.#socket.close();
    }
}
