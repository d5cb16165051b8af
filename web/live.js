import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { findNode, rootGraph } from "./graph.js";
import { LivePlayer } from "./live_player.js";

// Puts a live player on each LiveAvatar Stream to Video whose stream this page may watch: those of the workflow
// that is open, whichever page has started the run.

const NODE = "LiveAvatarStreamToVideo";
const PAGE_WIDGET = "video-preview";
const WIDGET = "liveavatar-player";
const MIN_WIDTH = 340;
const HEIGHT = 300;

const players = new Map(); // node -> LivePlayer

function addPlayer(node) {
    const player = new LivePlayer();
    const widget = node.addDOMWidget(WIDGET, WIDGET, player.element, {
        serialize: false,
        hideOnZoom: false,
        getMinHeight: () => HEIGHT,
    });
    widget.serialize = false;
    players.set(node, player);
    // The page puts a player of its own for the finished file into this container; ours shows that file as well.
    node.videoContainer = document.createElement("div");
    const own = node.widgets.find(({ name }) => name === PAGE_WIDGET);
    if (own) node.removeWidget(own);
    const removed = node.onRemoved;
    node.onRemoved = function (...values) {
        removed?.apply(this, values);
        players.delete(node);
        player.dispose();
    };
    const [width, height] = node.computeSize();
    node.setSize([Math.max(node.size[0], width, MIN_WIDTH), Math.max(node.size[1], height)]);
    return player;
}

function show(status) {
    if (status.workflow !== rootGraph()?.id) return;
    const node = findNode(status.node);
    if (node?.type === NODE) (players.get(node) ?? addPlayer(node)).show(status);
}

/** Ask for the streams of the open workflow: after a reload, or when another page has started one. */
async function ask() {
    const workflow = rootGraph()?.id;
    if (!workflow) return;
    const response = await api.fetchApi(`/liveavatar/streams?workflow=${encodeURIComponent(workflow)}`);
    if (response.ok) (await response.json()).forEach(show);
}

/** The newest frame of each block, which the page would draw below the player that shows them all. */
function dropPreviews({ detail }) {
    const node = findNode(detail.displayNodeId);
    if (!players.get(node)?.live) return;
    for (const [key, addresses] of Object.entries(app.nodePreviewImages))
        if (key === String(node.id) || key.endsWith(`:${node.id}`)) {
            addresses.forEach((address) => URL.revokeObjectURL(address));
            delete app.nodePreviewImages[key];
        }
}

app.registerExtension({
    name: "LiveAvatar.LivePlayer",
    setup() {
        api.addEventListener("liveavatar.stream", ({ detail }) => show(detail));
        api.addEventListener("liveavatar.streams", ask);
        api.addEventListener("b_preview_with_metadata", dropPreviews);
        api.addEventListener("executed", ({ detail }) => {
            const player = players.get(findNode(detail.display_node ?? detail.node));
            const place = detail.output?.images?.[0];
            if (player && place) player.showFile(place);
        });
    },
    afterConfigureGraph: ask,
});
