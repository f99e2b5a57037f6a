// Hears a live session's results, or a job's progress, by UDP: docs/udp.md tells the story.
//
// Generate the messages first (Atelier.cs and AtelierUdp.cs):
//
//     protoc --csharp_out=examples/udp/csharp -Iproto proto/atelier.proto proto/atelier_udp.proto
//
// In Unity: put this file and the generated ones under Assets, with Google.Protobuf.dll; make a Receiver in Start(), call its Poll() in
// Update(). Nothing here waits but Receiver.Connect, which asks for the key by TCP: call it from a Task.

#nullable enable

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using Atelier.Udp;
using Google.Protobuf;
using Tcp = Atelier.V1;

namespace Atelier.Examples
{
    public sealed class Receiver : IDisposable
    {
        const int Header = 24;      // bytes: 8 of the key's id, 16 of the tag
        const uint MostValues = 1024;  // of a result: the server's models have no more
        const double Again = 0.5;   // seconds until what was not answered is said again
        const byte FromClient = (byte)'C', FromServer = (byte)'S';

        readonly Socket socket;
        readonly byte[] key;
        readonly byte[] keyId = new byte[8];
        readonly double heartbeat;
        readonly Subscribe wanted;
        readonly byte[] buffer = new byte[2048];
        readonly Stopwatch clock = Stopwatch.StartNew();
        ulong sequence;     // of what we say
        ulong cookie;
        ulong next;         // of the topic; 0: not subscribed yet
        double due;

        /// <summary>Of the newest result, by index; Names say what they are.</summary>
        public float[] Values { get; private set; } = Array.Empty<float>();

        public Dictionary<uint, string> Names { get; } = new Dictionary<uint, string>();

        /// <summary>Of a job: 0 to 100.</summary>
        public double Percent { get; private set; }

        /// <summary>Why nothing more comes; empty while it does.</summary>
        public string Over { get; private set; } = "";

        /// <summary>Datagrams of the topic that did not come.</summary>
        public ulong Lost { get; private set; }

        Receiver(Tcp.UdpAddress where, string host, Subscribe wanted)
        {
            key = where.Key.ToByteArray();
            BinaryPrimitives.WriteUInt64BigEndian(keyId, where.KeyId);
            heartbeat = where.HeartbeatSeconds;
            this.wanted = wanted;
            var address = Dns.GetHostAddresses(where.Host.Length > 0 ? where.Host : host)[0];
            socket = new Socket(address.AddressFamily, SocketType.Dgram, ProtocolType.Udp);
            socket.ReceiveBufferSize = 1 << 20;
            socket.Connect(address, (int)where.Port);  // then the system takes datagrams from that address alone
            socket.Blocking = false;
        }

        /// <summary>Asks for a key by TCP (Hello, ConnectUdp), which waits for the answers. A live_id or a job_id.</summary>
        public static Receiver Connect(string host, int port, string token, Subscribe wanted)
        {
            using (var client = new TcpClient(host, port))
            {
                var stream = client.GetStream();
                var hello = new Tcp.Hello { ProtocolVersion = 1, Token = token, ClientName = "udp-example" };
                Say(stream, new Tcp.Envelope { RequestId = 1, Hello = hello });
                Expect(Hear(stream), Tcp.Envelope.MessageOneofCase.Welcome);
                Say(stream, new Tcp.Envelope { RequestId = 2, ConnectUdp = new Tcp.ConnectUdp() });
                var answer = Expect(Hear(stream), Tcp.Envelope.MessageOneofCase.UdpAddress);
                return new Receiver(answer.UdpAddress, host, wanted);
            }
        }

        /// <summary>Takes all that has come, and says what is due. Never waits: call it once a frame.</summary>
        public void Poll()
        {
            if (Over.Length > 0) return;
            var now = clock.Elapsed.TotalSeconds;
            if (now >= due)
            {
                Say();
                due = now + (next > 0 ? heartbeat : Again);
            }
            while (socket.Available > 0)
            {
                int size;
                try { size = socket.Receive(buffer); }
                catch (SocketException) { return; }  // nobody listens there, for now
                var message = Open(size);
                if (message != null) Take(message, now);
            }
        }

        public void Dispose() => socket.Dispose();

        void Take(ServerDatagram message, double now)
        {
            switch (message.MessageCase)
            {
                case ServerDatagram.MessageOneofCase.Challenge:
                    cookie = message.Challenge.Cookie;
                    due = 0;
                    break;
                case ServerDatagram.MessageOneofCase.Subscribed:
                    if (next == 0) next = message.Subscribed.NextSequence;
                    due = now + heartbeat;
                    break;
                case ServerDatagram.MessageOneofCase.Alive:
                    if (message.Alive.Subscriptions > 0) break;
                    next = 0;  // the server has forgotten us: subscribe anew
                    due = 0;
                    break;
                case ServerDatagram.MessageOneofCase.Names:
                    for (var at = 0; at < message.Names.Names_.Count; at++)
                        Names[message.Names.FirstIndex + (uint)at] = message.Names.Names_[at];
                    break;
                case ServerDatagram.MessageOneofCase.LiveResult:
                    var result = message.LiveResult;
                    if (result.Total > MostValues || result.FirstIndex > result.Total) break;  // anybody may have sent it
                    if (result.Values.Count > result.Total - result.FirstIndex || !IsNew(result.Sequence)) break;
                    if (Values.Length != result.Total) Values = new float[result.Total];
                    for (var at = 0; at < result.Values.Count; at++)
                        Values[(int)result.FirstIndex + at] = result.Values[at];
                    break;
                case ServerDatagram.MessageOneofCase.JobProgress:
                    if (IsNew(message.JobProgress.Sequence)) Percent = message.JobProgress.Percent;
                    break;
                case ServerDatagram.MessageOneofCase.JobEnded:
                    Over = message.JobEnded.State.ToString();
                    break;
                case ServerDatagram.MessageOneofCase.LiveEnded:
                    Over = "ended: " + message.LiveEnded.CodeName;
                    break;
                case ServerDatagram.MessageOneofCase.Refused:
                    Over = message.Refused.CodeName + ": " + message.Refused.Message;
                    break;
                case ServerDatagram.MessageOneofCase.Evicted:
                    Over = message.Evicted.CodeName + ": " + message.Evicted.Message;
                    break;
            }
        }

        bool IsNew(ulong number)
        {
            if (number < next) return false;
            if (next > 0) Lost += number - next;
            next = number + 1;
            return true;
        }

        void Say()
        {
            var said = new ClientDatagram { Sequence = ++sequence, Cookie = cookie };
            if (next > 0)
                said.Heartbeat = new Heartbeat { Padding = ByteString.CopyFrom(new byte[16]) };  // long enough to be challenged
            else
                said.Subscribe = wanted;
            var body = said.ToByteArray();
            var datagram = new byte[Header + body.Length];
            keyId.CopyTo(datagram, 0);
            Tag(FromClient, keyId, body, 0, body.Length).CopyTo(datagram, 8);
            body.CopyTo(datagram, Header);
            try { socket.Send(datagram); }
            catch (SocketException) { }  // said again when it is due
        }

        /// <summary>Whether the server says it to all at once, unsigned: whoever else says so unsigned is not it.</summary>
        static bool IsForAll(ServerDatagram message)
        {
            switch (message.MessageCase)
            {
                case ServerDatagram.MessageOneofCase.Names:
                case ServerDatagram.MessageOneofCase.LiveResult:
                case ServerDatagram.MessageOneofCase.LiveEnded:
                case ServerDatagram.MessageOneofCase.JobProgress:
                case ServerDatagram.MessageOneofCase.JobEnded:
                    return true;
                default:
                    return false;
            }
        }

        ServerDatagram? Open(int size)
        {
            if (size <= Header) return null;
            var head = new byte[8];
            Array.Copy(buffer, head, 8);
            var forAll = BinaryPrimitives.ReadUInt64BigEndian(head) == 0;
            if (!forAll)
            {
                var tag = Tag(FromServer, head, buffer, Header, size - Header);
                if (!CryptographicOperations.FixedTimeEquals(tag, new ReadOnlySpan<byte>(buffer, 8, 16))) return null;
            }
            try
            {
                var message = ServerDatagram.Parser.ParseFrom(buffer, Header, size - Header);
                return forAll && !IsForAll(message) ? null : message;
            }
            catch (InvalidProtocolBufferException) { return null; }
        }

        byte[] Tag(byte direction, byte[] head, byte[] body, int offset, int count)
        {
            using (var hmac = IncrementalHash.CreateHMAC(HashAlgorithmName.SHA256, key))
            {
                hmac.AppendData(new[] { direction });
                hmac.AppendData(head);
                hmac.AppendData(body, offset, count);
                var tag = new byte[16];
                Array.Copy(hmac.GetHashAndReset(), tag, 16);
                return tag;
            }
        }

        static void Say(Stream stream, Tcp.Envelope envelope)
        {
            var body = envelope.ToByteArray();
            var size = new byte[4];
            BinaryPrimitives.WriteInt32BigEndian(size, body.Length);
            stream.Write(size, 0, 4);
            stream.Write(body, 0, body.Length);
        }

        static Tcp.Envelope Hear(Stream stream)
        {
            var size = BinaryPrimitives.ReadInt32BigEndian(Read(stream, 4));
            return Tcp.Envelope.Parser.ParseFrom(Read(stream, size));
        }

        static byte[] Read(Stream stream, int count)
        {
            var data = new byte[count];
            for (var at = 0; at < count;)
            {
                var got = stream.Read(data, at, count - at);
                if (got == 0) throw new EndOfStreamException("the server closed the connection");
                at += got;
            }
            return data;
        }

        static Tcp.Envelope Expect(Tcp.Envelope envelope, Tcp.Envelope.MessageOneofCase wanted)
        {
            if (envelope.MessageCase != wanted) throw new InvalidOperationException("instead of " + wanted + ": " + envelope);
            return envelope;
        }
    }

    public static class Program
    {
        // HOST PORT TOKEN live|job ID
        public static void Main(string[] given)
        {
            var wanted = given[3] == "live" ? new Subscribe { LiveId = given[4] } : new Subscribe { JobId = given[4] };
            using (var receiver = Receiver.Connect(given[0], int.Parse(given[1]), given[2], wanted))
            {
                while (receiver.Over.Length == 0)
                {
                    receiver.Poll();
                    var said = given[3] == "live" ? string.Join(" ", receiver.Values) : receiver.Percent.ToString("F0") + " %";
                    Console.Write("\r" + said + "  (" + receiver.Lost + " lost)   ");
                    System.Threading.Thread.Sleep(33);
                }
                Console.WriteLine("\n" + receiver.Over);
            }
        }
    }
}
