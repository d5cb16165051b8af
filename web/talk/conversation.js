import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { addElement, enlarge, ensureOwnId, findNode, rootGraph, whenRemoved } from "../graph.js";
import { playerOf } from "../live.js";
import { TalkPanel } from "./panel.js";
import { TalkSocket } from "./socket.js";

// The node of a conversation shows it while it runs. Only the page that has started the run is told the id; the browser
// keeps it for a reload and for its other tabs.

const NODES = ["AvatarConversation", "AvatarConversationRealtime"];
const WIDGET = "liveavatar-talk";
const HEIGHT = 260;
const MIN_WIDTH = 340;
const KEPT = "LiveAvatar.talk."; // and a workflow's id
const PLAYED_MS = 200; // between two messages on how much of the video was shown

/** The conversation on one node, one run after the other. */
class Talk {
    #place = null; // what the server has told of the run
    #socket = null;
    #speaks = false; // the avatar
    #played = null;
    #timer = setInterval(() => this.#tellPlayed(), PLAYED_MS);
    panel = new TalkPanel(() => this.#beMute());

    /** A run waits for what is said to it. */
    open(place) {
        if (place.id === this.#place?.id) return;
        this.#socket?.close();
        this.#place = place;
        const socket = (this.#socket = new TalkSocket(`/liveavatar/talk/${encodeURIComponent(place.id)}`));
        socket.addEventListener("connected", () => this.panel.transcript.clear()); // the server tells all of it again
        socket.addEventListener("message", ({ detail }) => this.#take(detail));
        socket.addEventListener("broken", () => this.panel.show("broken"));
        socket.addEventListener("gone", () => this.close());
        this.panel.open(place, socket);
    }

    /** The run is over. */
    close() {
        this.#socket?.close();
        this.#socket = null;
        this.panel.close();
        if (this.#place) forget(this.#place);
    }

    /** The node is gone; the run may go on. */
    dispose() {
        clearInterval(this.#timer);
        this.#socket?.close();
        this.panel.close();
    }

    get prompt() {
        return this.#place?.prompt;
    }

    #take({ type, ...message }) {
        const { transcript } = this.panel;
        const loudness = playerOf(this.prompt)?.loudness;
        if (type === "state") {
            this.#speaks = message.state === "speaking";
            this.panel.show(message.state);
        } else if (type === "heard") transcript.heard(message.text, message.final);
        else if (type === "said") transcript.said(message.text, message.turn);
        else if (type === "duck") loudness?.duck(message.on);
        else if (type === "interrupted") {
            loudness?.silence(message.until);
            transcript.interrupted();
        } else if (type === "void") loudness?.silence(message.until);
        else if (type === "timings") {
            const { turn, ...parts } = message;
            transcript.timed(turn, parts);
        } else if (type === "error") transcript.note(message.message);
        else if (type === "end") this.close();
    }

    /** Somebody begins to speak: the server will know it a moment later. */
    #beMute() {
        if (this.#speaks && this.#place.barge_in) playerOf(this.prompt)?.loudness.suspect(() => this.panel.onset.wrong());
    }

    /** Tell how much has been shown, because that was heard. A page in the background tells nothing. */
    #tellPlayed() {
        const seconds = playerOf(this.prompt)?.position;
        if (!seconds || document.hidden || seconds === this.#played) return;
        if (this.#socket?.tell({ type: "played", seconds })) this.#played = seconds;
    }
}

const talks = new Map(); // node -> Talk

function addTalk(node) {
    const talk = new Talk();
    addElement(node, WIDGET, talk.panel.element, { getMinHeight: () => HEIGHT });
    talks.set(node, talk);
    whenRemoved(node, () => {
        talks.delete(node);
        talk.dispose();
    });
    enlarge(node, MIN_WIDTH);
}

function show(place) {
    if (place.workflow === (rootGraph()?.id ?? null)) talks.get(findNode(place.node))?.open(place);
}

function keep(place) {
    localStorage.setItem(KEPT + place.workflow, JSON.stringify(place));
}

function forget({ id, workflow }) {
    if (kept(workflow)?.id === id) localStorage.removeItem(KEPT + workflow);
}

function kept(workflow) {
    return JSON.parse(localStorage.getItem(KEPT + workflow));
}

function recall() {
    const place = kept(rootGraph()?.id);
    if (place) show(place);
}

app.registerExtension({
    name: "LiveAvatar.Conversation",
    setup() {
        api.addEventListener("liveavatar.talk", ({ detail }) => {
            if (detail.workflow) keep(detail);
            show(detail);
        });
        window.addEventListener("storage", ({ key }) => key?.startsWith(KEPT) && recall()); // another tab has started one
        for (const kind of ["execution_success", "execution_error", "execution_interrupted"])
            api.addEventListener(kind, ({ detail }) => {
                for (const talk of talks.values()) if (talk.prompt === detail.prompt_id) talk.close();
            });
    },
    nodeCreated(node) {
        if (!NODES.includes(node.comfyClass)) return;
        addTalk(node); // not when a run begins: Nodes 2.0 shows no widget that comes after a value was changed
        ensureOwnId();
    },
    afterConfigureGraph: recall,
});
