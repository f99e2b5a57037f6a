// Hears a live session's results, or a job's progress, by UDP: docs/udp.md tells the story.
//
//     protoc --cpp_out=. -I../../../proto atelier.proto atelier_udp.proto
//     g++ -std=c++17 -O2 receiver.cpp atelier.pb.cc atelier_udp.pb.cc -o receiver -lprotobuf -lcrypto -pthread
//     ./receiver 127.0.0.1 9000 TOKEN live LIVE_ID            (TOKEN may be "", and "job JOB_ID" is the other topic)
//
// In Unreal: Receiver::Poll in an actor's Tick (it never waits), FSocket in place of POSIX sockets, and the OpenSSL that the engine
// ships. Receiver::Connect asks for the key by TCP and waits for the answers: call it from a task.

#include <fcntl.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "atelier.pb.h"
#include "atelier_udp.pb.h"

namespace tcp = atelier::v1;
namespace udp = atelier::udp::v1;

namespace {

constexpr std::size_t kHeader = 24;  // bytes: 8 of the key's id, 16 of the tag
constexpr std::size_t kTag = 16;
constexpr std::size_t kLargest = 1200;  // bytes of a datagram
constexpr std::size_t kMostValues = 1024;  // of a result: the server's models have no more (MAX_NAMES)
constexpr double kAgain = 0.5;          // seconds until what was not answered is said again
constexpr double kPatience = 15;        // seconds without an answer after which it is given up

template <typename Number>
std::string BigEndian(Number number) {
    std::string bytes(sizeof(Number), '\0');
    for (std::size_t at = 0; at < sizeof(Number); ++at)
        bytes[at] = static_cast<char>(number >> (8 * (sizeof(Number) - 1 - at)));
    return bytes;
}

double Now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// A connected socket that closes itself. Throws std::runtime_error.
class Socket {
public:
    Socket(const std::string& host, unsigned port, int kind) {
        addrinfo wanted{}, *found = nullptr;
        wanted.ai_socktype = kind;
        if (const int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &wanted, &found))
            throw std::runtime_error(host + ": " + gai_strerror(error));
        for (addrinfo* one = found; one != nullptr && number_ < 0; one = one->ai_next) {
            number_ = socket(one->ai_family, one->ai_socktype, one->ai_protocol);
            if (number_ >= 0 && connect(number_, one->ai_addr, one->ai_addrlen) != 0) {
                close(number_);
                number_ = -1;
            }
        }
        freeaddrinfo(found);
        if (number_ < 0) throw std::runtime_error("cannot reach " + host);
    }
    ~Socket() {
        if (number_ >= 0) close(number_);
    }
    Socket(Socket&& other) noexcept : number_(other.number_) { other.number_ = -1; }
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;
    Socket& operator=(Socket&&) = delete;

    int number() const { return number_; }

private:
    int number_ = -1;
};

void Say(const Socket& server, const tcp::Envelope& envelope) {
    const std::string body = envelope.SerializeAsString();
    const std::string frame = BigEndian(static_cast<std::uint32_t>(body.size())) + body;
    for (std::size_t at = 0; at < frame.size();) {
        const ssize_t sent = send(server.number(), frame.data() + at, frame.size() - at, 0);
        if (sent <= 0) throw std::runtime_error("the server closed the connection");
        at += static_cast<std::size_t>(sent);
    }
}

std::string Read(const Socket& server, std::size_t size) {
    std::string data(size, '\0');
    for (std::size_t at = 0; at < size;) {
        const ssize_t got = recv(server.number(), data.data() + at, size - at, 0);
        if (got <= 0) throw std::runtime_error("the server closed the connection");
        at += static_cast<std::size_t>(got);
    }
    return data;
}

tcp::Envelope Hear(const Socket& server, tcp::Envelope::MessageCase wanted) {
    std::size_t size = 0;
    for (const char byte : Read(server, 4)) size = size << 8 | static_cast<unsigned char>(byte);
    tcp::Envelope envelope;
    if (!envelope.ParseFromString(Read(server, size)) || envelope.message_case() != wanted)
        throw std::runtime_error("the server says instead: " + envelope.ShortDebugString());
    return envelope;
}

}  // namespace

class Receiver {
public:
    std::vector<float> values;                 // of the newest result
    std::map<std::uint32_t, std::string> names;  // of the values, by index
    double percent = 0;                        // of a job
    std::uint64_t results = 0;                 // datagrams of the topic that came
    std::uint64_t lost = 0;                    // and that did not
    std::string over;                          // why nothing more comes; empty while it does

    // Asks for a key by TCP (Hello, ConnectUdp), which waits for the answers. Throws std::runtime_error.
    static Receiver Connect(const std::string& host, unsigned port, const std::string& token, udp::Subscribe wanted) {
        const Socket server(host, port, SOCK_STREAM);
        tcp::Envelope hello, ask;
        hello.set_request_id(1);
        hello.mutable_hello()->set_protocol_version(1);
        hello.mutable_hello()->set_token(token);
        hello.mutable_hello()->set_client_name("udp-example");
        Say(server, hello);
        Hear(server, tcp::Envelope::kWelcome);
        ask.set_request_id(2);
        ask.mutable_connect_udp();
        Say(server, ask);
        return Receiver(host, Hear(server, tcp::Envelope::kUdpAddress).udp_address(), std::move(wanted));
    }

    // Takes all that has come, and says what is due. Never waits: call it once a frame.
    void Poll() {
        if (!over.empty()) return;
        const double now = Now();
        if (now - heard_ > std::max(kPatience, 3 * heartbeat_)) {
            over = "no answer";  // the key is over, the server is gone, or something on the way takes no UDP
            return;
        }
        if (now >= due_) {
            SayWhatIsDue();
            due_ = now + (next_ > 0 ? heartbeat_ : kAgain);
        }
        std::array<char, kLargest + 1> datagram;
        for (ssize_t size; (size = recv(socket_.number(), datagram.data(), datagram.size(), 0)) > 0;)
            if (const auto message = Open(std::string(datagram.data(), static_cast<std::size_t>(size)))) TakeAny(*message, now);
    }

private:
    Receiver(const std::string& host, const tcp::UdpAddress& where, udp::Subscribe wanted)
        : socket_(where.host().empty() ? host : where.host(), where.port(), SOCK_DGRAM),  // it hears that address alone
          key_(where.key()),
          key_id_(BigEndian(where.key_id())),
          heartbeat_(where.heartbeat_seconds()),
          wanted_(std::move(wanted)) {
        const int room = 1 << 20;
        setsockopt(socket_.number(), SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
        fcntl(socket_.number(), F_SETFL, O_NONBLOCK);
    }

    struct Opened {
        udp::ServerDatagram message;
        bool is_signed;
    };

    // What is not signed anybody can send who can pretend the server's address: only what the server sends so is taken, and an
    // end only as a hint, which the answer to our next heartbeat bears out: fewer subscriptions than we had.
    void TakeAny(const Opened& opened, double now) {
        const udp::ServerDatagram& message = opened.message;
        if (opened.is_signed) return Take(message, now);
        switch (message.message_case()) {
            case udp::ServerDatagram::kNames:
            case udp::ServerDatagram::kLiveResult:
            case udp::ServerDatagram::kJobProgress:
                return Take(message, now);
            case udp::ServerDatagram::kJobEnded:
                ended_ = udp::JobEnded::State_Name(message.job_ended().state());
                break;
            case udp::ServerDatagram::kLiveEnded:
                ended_ = "ended: " + message.live_ended().code_name();
                break;
            default:
                return;
        }
        due_ = std::min(due_, now + kAgain);
    }

    void Take(const udp::ServerDatagram& message, double now) {
        heard_ = now;
        switch (message.message_case()) {
            case udp::ServerDatagram::kChallenge:
                cookie_ = message.challenge().cookie();
                due_ = 0;
                break;
            case udp::ServerDatagram::kSubscribed:
                if (next_ == 0) next_ = message.subscribed().next_sequence();
                due_ = now + heartbeat_;
                break;
            case udp::ServerDatagram::kAlive:
                if (message.alive().subscriptions() > 0) {
                    ended_.clear();  // not yet, or it was not the server that said so
                    break;
                }
                if (next_ > 0 && !ended_.empty()) {
                    over = ended_;
                    break;
                }
                next_ = 0;  // the server has forgotten us: subscribe anew
                due_ = 0;
                break;
            case udp::ServerDatagram::kNames:
                for (int at = 0; at < message.names().names_size(); ++at) {
                    if (message.names().first_index() + static_cast<std::size_t>(at) >= kMostValues) break;
                    names[message.names().first_index() + static_cast<std::uint32_t>(at)] = message.names().names(at);
                }
                break;
            case udp::ServerDatagram::kLiveResult: {
                const udp::LiveResult& result = message.live_result();
                const std::size_t first = result.first_index(), count = static_cast<std::size_t>(result.values_size());
                if (result.total() > kMostValues || first + count > result.total() || !IsNew(result.sequence())) break;
                values.resize(result.total());
                std::copy(result.values().begin(), result.values().end(), values.begin() + static_cast<std::ptrdiff_t>(first));
                break;
            }
            case udp::ServerDatagram::kJobProgress:
                if (IsNew(message.job_progress().sequence())) percent = message.job_progress().percent();
                break;
            case udp::ServerDatagram::kJobEnded:
                over = udp::JobEnded::State_Name(message.job_ended().state());
                break;
            case udp::ServerDatagram::kLiveEnded:
                over = "ended: " + message.live_ended().code_name();
                break;
            case udp::ServerDatagram::kRefused:
                over = message.refused().code_name() + ": " + message.refused().message();
                break;
            case udp::ServerDatagram::kEvicted:
                over = message.evicted().code_name() + ": " + message.evicted().message();
                break;
            default:
                break;
        }
    }

    bool IsNew(std::uint64_t number) {
        if (number < next_) return false;
        if (next_ > 0) lost += number - next_;
        next_ = number + 1;
        ++results;
        return true;
    }

    void SayWhatIsDue() {
        udp::ClientDatagram said;
        said.set_sequence(++sequence_);
        said.set_cookie(cookie_);
        if (next_ > 0)
            said.mutable_heartbeat()->set_padding(std::string(16, '\0'));  // long enough to be challenged
        else
            *said.mutable_subscribe() = wanted_;
        const std::string body = said.SerializeAsString();
        const std::string datagram = key_id_ + Tag('C', key_id_, body) + body;
        send(socket_.number(), datagram.data(), datagram.size(), 0);  // what does not leave is said again when it is due
    }

    std::optional<Opened> Open(const std::string& datagram) const {
        if (datagram.size() <= kHeader || datagram.size() > kLargest) return std::nullopt;
        const std::string head = datagram.substr(0, 8), body = datagram.substr(kHeader);
        const bool for_all = head == std::string(8, '\0');
        if (!for_all && CRYPTO_memcmp(Tag('S', head, body).data(), datagram.data() + 8, kTag) != 0) return std::nullopt;
        Opened opened{{}, !for_all};
        if (!opened.message.ParseFromString(body)) return std::nullopt;
        return opened;
    }

    std::string Tag(char direction, const std::string& head, const std::string& body) const {
        const std::string signed_bytes = direction + head + body;
        std::array<unsigned char, EVP_MAX_MD_SIZE> tag{};
        HMAC(EVP_sha256(), key_.data(), static_cast<int>(key_.size()),
             reinterpret_cast<const unsigned char*>(signed_bytes.data()), signed_bytes.size(), tag.data(), nullptr);
        return std::string(reinterpret_cast<const char*>(tag.data()), kTag);
    }

    Socket socket_;
    std::string key_, key_id_;
    double heartbeat_;
    udp::Subscribe wanted_;
    std::uint64_t sequence_ = 0;  // of what we say
    std::uint64_t cookie_ = 0;
    std::uint64_t next_ = 0;  // of the topic; 0: not subscribed yet
    std::string ended_;       // how, as was said without a signature
    double due_ = 0;
    double heard_ = Now();
};

// HOST PORT TOKEN live|job ID
int main(int count, char** given) {
    if (count != 6) {
        std::fprintf(stderr, "usage: %s HOST PORT TOKEN live|job ID\n", given[0]);
        return 2;
    }
    const bool live = std::string(given[4]) == "live";
    udp::Subscribe wanted;
    if (live)
        wanted.set_live_id(given[5]);
    else
        wanted.set_job_id(given[5]);
    try {
        Receiver receiver = Receiver::Connect(given[1], static_cast<unsigned>(std::atoi(given[2])), given[3], wanted);
        while (receiver.over.empty()) {
            receiver.Poll();
            std::printf("\r");
            if (!live) std::printf("%.0f %%", receiver.percent);
            for (std::size_t at = 0; at < receiver.values.size(); ++at)
                std::printf("%s %.2f  ", receiver.names[static_cast<std::uint32_t>(at)].c_str(), receiver.values[at]);
            std::fflush(stdout);
            std::this_thread::sleep_for(std::chrono::milliseconds(33));
        }
        std::printf("\n%s: %llu datagrams, %llu lost\n", receiver.over.c_str(),
                    static_cast<unsigned long long>(receiver.results), static_cast<unsigned long long>(receiver.lost));
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
